package main

import (
	"fmt"
	"time"
)

// A task is a function to be measured and how often a round calls it.
type task struct {
	name  string
	calls int
	call  func() error
}

// best lets all tasks take turns, rounds times over, and returns the nanoseconds of
// one call in each one's best round.
func best(rounds int, tasks ...task) ([]float64, error) {
	least := make([]float64, len(tasks))
	for round := range rounds {
		for i, t := range tasks {
			took, err := t.round()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", t.name, err)
			}
			if round == 0 || took < least[i] {
				least[i] = took
			}
		}
	}
	return least, nil
}

// round returns the nanoseconds of one call.
func (t task) round() (float64, error) {
	began := time.Now()
	for range t.calls {
		if err := t.call(); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began)) / float64(t.calls), nil
}

// pretty prints nanoseconds with as many digits as were measured.
func pretty(ns float64) string {
	switch {
	case ns < 100:
		return fmt.Sprintf("%.1f ns", ns)
	case ns < 10e3:
		return fmt.Sprintf("%.0f ns", ns)
	case ns < 10e6:
		return fmt.Sprintf("%.1f µs", ns/1e3)
	}
	return fmt.Sprintf("%.0f ms", ns/1e6)
}
