// Package backoff says, for each key, how long to wait after failures. It is the
// capped exponential back-off that the kubelet applies to image pulls and containers.
//
// The one call most users need is [Backoff.Fail], with [Backoff.Wait] before the
// next try; the zero [Config] has the kubelet's figures for images:
//
//	b, err := backoff.New[string](backoff.Config{})
//	b.Fail(image)                  // after a failed try: 10s
//	if d := b.Wait(image); d > 0 { // before the next
//		return // not yet, in d
//	}
//
// A failure starts a window in which the key must not be tried. The first window is 10 s
// long, and each further failure doubles the length up to 300 s: 10s 20s 40s 1m20s 2m40s
// 5m0s 5m0s ... A failure inside a window counts as well. A key may be tried again when its
// window ends.
//
// [Backoff.Reset] ends a streak of failures after a success. A streak also ends when more
// than 2 x Max pass without a failure; the next failure then starts a window of Initial again.
// [Backoff.NotBefore] lengthens a window because a server sent Retry-After.
//
// With Jitter a delay is twice the previous delay, plus random x Jitter x the previous
// delay. The first delay is Initial, plus random x Jitter x Initial. random is in [0, 1).
// Max is applied after the jitter.
//
// # Differences to client-go
//
// The rules are those of k8s.io/client-go/util/flowcontrol's Backoff (v0.36.3), with
// these differences:
//
//   - Max caps every delay. There, the first one is not capped.
//   - A streak that has ended is gone. There, Get returns its delay until GC is called.
//   - A failure happens when Fail is called. There, the caller also passes the time of an
//     event. That time decides whether the streak has ended, but the window starts at the
//     clock's time.
//   - Zero settings mean the defaults, and negative ones are errors. There, an Initial of
//     0 never waits, and a Max of 0 makes each failure the first.
//   - There is no GC to call. Later calls drop the streaks that have ended: each time the
//     number of keys has doubled, and at the latest the first call that comes a minute or
//     more after the end of the streak.
//   - There, nothing corresponds to [Backoff.NotBefore].
//
// # Left out
//
// The package does not sleep, starts no goroutine, and keeps nothing when the program ends.
package backoff
