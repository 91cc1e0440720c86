package backoff

// MustNew is New for a test whose settings are valid.
func MustNew[K comparable](config Config) *Backoff[K] {
	b, err := New[K](config)
	if err != nil {
		panic(err)
	}
	return b
}
