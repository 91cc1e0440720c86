package credentials

// A seenSet remembers credentials, so that none is yielded twice. A look-up
// yields a handful as a rule: those are kept in an array, without a map.
type seenSet struct {
	few  [4]Credential
	n    int
	many map[Credential]struct{}
}

// has reports whether c, or one that is the same, was added.
func (s *seenSet) has(c Credential) bool {
	c = c.bare()
	for _, d := range s.few[:s.n] {
		if c == d {
			return true
		}
	}
	_, ok := s.many[c]
	return ok
}

// add adds c, and reports whether it is new.
func (s *seenSet) add(c Credential) bool {
	if s.has(c) {
		return false
	}
	c = c.bare()
	if s.n < len(s.few) {
		s.few[s.n] = c
		s.n++
		return true
	}
	if s.many == nil {
		s.many = map[Credential]struct{}{}
	}
	s.many[c] = struct{}{}
	return true
}

// foreignTo reports whether o is a Secret of another namespace than the given one.
// Nothing is foreign to "", which is no Pod's.
func (o Origin) foreignTo(namespace string) bool {
	return namespace != "" && o.Kind == KindSecret && o.Namespace != namespace
}

// A podSeenSet is a seenSet in which Secrets that are foreign to a Pod's namespace
// hide nothing but each other: the Pod may not use them, and may hold the same
// credential itself.
type podSeenSet struct {
	namespace    string
	own, foreign seenSet
}

func (s *podSeenSet) add(c Credential) bool {
	if c.Origin.foreignTo(s.namespace) {
		return !s.own.has(c) && s.foreign.add(c)
	}
	return s.own.add(c)
}
