package main

import (
	"fmt"
	"time"
)

// A task is a function that is measured, and how often a round calls it.
type task struct {
	name  string
	calls int
	call  func() error
}

// best runs all tasks in turn, in each of a number of rounds. It returns the nanoseconds of one
// call in the best round of each task.
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

// round runs one round of a task, and returns the nanoseconds of one call.
func (t task) round() (float64, error) {
	began := time.Now()
	for range t.calls {
		if err := t.call(); err != nil {
			return 0, err
		}
	}
	return float64(time.Since(began)) / float64(t.calls), nil
}

// pretty returns nanoseconds in a readable unit, with about as many digits as are significant.
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
