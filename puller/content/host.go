package content

// ServerHost returns Host. Package puller, which does not know this one, reads it
// for the attempts that it lists.
func (e *Error) ServerHost() string { return e.Host }
