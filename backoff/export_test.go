package backoff

// MustNew is New for the settings of a test, which are right.
func MustNew[K comparable](config Config) *Backoff[K] {
	b, err := New[K](config)
	if err != nil {
		panic(err)
	}
	return b
}
