package reference

import (
	"cmp"
	"strings"
)

// AppendText appends r.String() to b. It never fails.
func (r Reference) AppendText(b []byte) ([]byte, error) {
	return append(b, r.String()...), nil
}

// MarshalText returns r.String(), which is empty for the zero Reference. It
// never fails.
func (r Reference) MarshalText() ([]byte, error) {
	return r.AppendText(nil)
}

// UnmarshalText parses text as [Parse] does, so that names in JSON and
// configuration files may be written short. Empty text gives the zero
// Reference. On error r stays as it was.
func (r *Reference) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*r = Reference{}
		return nil
	}
	s, err := Parse(string(text))
	if err != nil {
		return err
	}
	*r = s
	return nil
}

// Compare returns -1, 0 or +1: the order is by registry, repository, tag and
// digest, byte by byte. The zero Reference comes first. It is 0 exactly for
// equal References, and suits slices.SortFunc.
func (r Reference) Compare(other Reference) int {
	return cmp.Or(
		strings.Compare(r.Registry(), other.Registry()),
		r.compareRepository(other),
		strings.Compare(r.tag, other.tag),
		strings.Compare(string(r.digest), string(other.digest)),
	)
}

// compareRepository compares repositories on one registry without writing
// library/ out.
func (r Reference) compareRepository(other Reference) int {
	a, b := r.below(), other.below()
	switch {
	case a == b:
		return strings.Compare(r.repository, other.repository)
	case a == "":
		return -other.compareRepository(r)
	}
	// Only r lies below library/.
	n := min(len(a), len(other.repository))
	if c := strings.Compare(a, other.repository[:n]); c != 0 {
		return c
	}
	return strings.Compare(r.repository, other.repository[n:])
}
