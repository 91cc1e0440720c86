package credentials

// A seenSet remembers credentials, so that none is yielded twice. A look-up
// yields a handful as a rule: those are kept in an array, without a map.
type seenSet struct {
	few  [4]Credential
	n    int
	many map[Credential]struct{}
}

// add reports whether c is new.
func (s *seenSet) add(c Credential) bool {
	c = c.bare()
	for _, d := range s.few[:s.n] {
		if c == d {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = c
		s.n++
		return true
	}
	if _, ok := s.many[c]; ok {
		return false
	}
	if s.many == nil {
		s.many = map[Credential]struct{}{}
	}
	s.many[c] = struct{}{}
	return true
}
