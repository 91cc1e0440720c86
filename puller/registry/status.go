package registry

// StatusCode returns the HTTP status. Package puller reads it for the attempts
// that it lists.
func (e *StatusError) StatusCode() int { return e.Status }

// ErrorCodes returns the registry's codes without their messages. Package puller
// reads them for the attempts that it lists.
func (e *StatusError) ErrorCodes() []string {
	var codes []string
	for _, c := range e.Codes {
		codes = append(codes, c.Code)
	}
	return codes
}
