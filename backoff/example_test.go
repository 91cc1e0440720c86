package backoff_test

import (
	"fmt"
	"time"

	"github.com/pullkit/pullkit/backoff"
)

func ExampleBackoff() {
	b, err := backoff.New[string](backoff.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 7 {
		fmt.Print(b.Fail("web/app:v1"), " ")
	}
	// Output: 10s 20s 40s 1m20s 2m40s 5m0s 5m0s
}

func ExampleBackoff_Wait() {
	now := time.Now()
	b, err := backoff.New[string](backoff.Config{Now: func() time.Time { return now }})
	if err != nil {
		fmt.Println(err)
		return
	}
	b.Fail("web/app:v1")
	now = now.Add(4 * time.Second)
	fmt.Println(b.Wait("web/app:v1"), b.Wait("web/app:v2"))
	now = now.Add(6 * time.Second)
	fmt.Println(b.Wait("web/app:v1"))
	// Output:
	// 6s 0s
	// 0s
}

// A registry answered 429 with Retry-After: 60.
func ExampleBackoff_NotBefore() {
	now := time.Now()
	b, err := backoff.New[string](backoff.Config{Now: func() time.Time { return now }})
	if err != nil {
		fmt.Println(err)
		return
	}
	b.Fail("web/app:v1")
	b.NotBefore("web/app:v1", now.Add(60*time.Second))
	fmt.Println(b.Wait("web/app:v1"))
	// Output: 1m0s
}

func ExampleState() {
	b, err := backoff.New[string](backoff.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	b.Fail("web/app:v1")
	b.Fail("web/app:v1")
	state := b.State("web/app:v1")
	fmt.Println(state.Failures, state.Delay, state.Until.After(time.Now()))
	b.Reset("web/app:v1")
	fmt.Println(b.State("web/app:v1").Failures)
	// Output:
	// 2 20s true
	// 0
}

func ExampleNew() {
	b, err := backoff.New[string](backoff.Config{Initial: time.Second, Max: 5 * time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(b.Fail("web/app:v1"), b.Fail("web/app:v1"), b.Fail("web/app:v1"), b.Fail("web/app:v1"))
	// Output: 1s 2s 4s 5s
}

func ExampleConfig() {
	_, err := backoff.New[string](backoff.Config{Max: -time.Second})
	fmt.Println(err)
	// Output: backoff: Max is -1s; it must not be negative
}
