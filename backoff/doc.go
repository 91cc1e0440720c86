// Package backoff keeps, for each key, how long to wait after failures: capped
// exponential back-off as the kubelet applies it to image pulls and containers.
//
// The zero [Backoff] is ready, with the kubelet's figures for images:
//
//	var b backoff.Backoff[string]
//	b.Fail(image)                    // after a failed try: 10s
//	if d := b.Wait(image); d > 0 {   // before the next
//		return // not yet, in d
//	}
//
// # The series
//
// The first failure of a key opens a window of Initial, 10 s. Each further
// failure, also one inside the window, opens one of twice the length, up to Max,
// 300 s: 10s 20s 40s 1m20s 2m40s 5m0s 5m0s ... The window is half open: at its
// very end the key may be tried. A streak of failures ends with [Backoff.Reset],
// or by itself when more than 2 x Max have gone by since the last failure: then
// the next one opens a window of Initial again.
//
// With Jitter a delay is longer by a random part of the delay before it: twice
// the previous one plus random x Jitter x the previous one; for the first,
// Initial plus random x Jitter x Initial. The cap comes after the jitter.
//
// These are the rules of k8s.io/client-go/util/flowcontrol's Backoff (v0.36.3),
// with these differences:
//
//   - Max caps every delay. There, the first one is not capped.
//   - A streak that has ended is gone. There, Get goes on showing its delay until
//     GC is called.
//   - A failure happens when Fail is called. There, the caller also hands in the
//     time of an event, by which the end of the streak is judged, while the window
//     begins at the clock's time.
//   - Zero fields mean the defaults. There, an Initial of 0 never waits, and a Max
//     of 0 makes each failure the first.
//   - Nobody has to call GC: each call drops a few streaks that have ended.
//   - [Backoff.NotBefore] lengthens a window, for a server's Retry-After.
//
// # What is left out
//
// Nothing here sleeps and no goroutine runs; nothing is kept across restarts.
package backoff
