package credentials

import "unique"

// Sensitive holds a secret that no verb of fmt, no wrapper, no logger and no
// encoder prints: all any of them can reach is an opaque handle. It is
// comparable; two Sensitive values are equal when their secrets are. The zero
// Sensitive holds the empty secret.
//
// Secrets are interned for as long as a Sensitive with their value exists.
type Sensitive struct{ h unique.Handle[string] }

// Conceal wraps a secret. Conceal("") is the zero Sensitive.
func Conceal(s string) Sensitive {
	if s == "" {
		return Sensitive{}
	}
	return Sensitive{unique.Make(s)}
}

// Reveal returns the secret; "" for the zero Sensitive.
func (s Sensitive) Reveal() string {
	if s == (Sensitive{}) {
		return ""
	}
	return s.h.Value()
}

// IsZero reports whether the secret is empty.
func (s Sensitive) IsZero() bool { return s == Sensitive{} }
