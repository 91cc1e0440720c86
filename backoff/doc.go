// Package backoff keeps, for each key, how long to wait after failures: capped
// exponential back-off as the kubelet applies it to image pulls and containers.
//
// The one call most users need is [Backoff.Fail], with [Backoff.Wait] before the
// next try; the zero [Backoff] is ready, with the kubelet's figures for images:
//
//	var b backoff.Backoff[string]
//	b.Fail(image)                  // after a failed try: 10s
//	if d := b.Wait(image); d > 0 { // before the next
//		return // not yet, in d
//	}
//
// # Rules
//
// The sections are those of the Kubernetes page [Images]; a dash is a rule that
// the page does not state.
//
//	rule                                           function           section
//	a failure opens a window, the first of 10 s    Backoff.Fail       ImagePullBackOff
//	each further one is twice as long, up to Max   Backoff.Fail       ImagePullBackOff
//	Max is 300 s                                   DefaultMax         ImagePullBackOff
//	inside the window the key is not tried         Backoff.Wait       ImagePullBackOff
//	all delays, without a key                      Delays             ImagePullBackOff
//	a success ends the streak                      Backoff.Reset      -
//	a streak ends after 2 x Max without a failure  Backoff.State      -
//	a server's Retry-After lengthens the window    Backoff.NotBefore  -
//
// A failure inside the window counts as well: 10s 20s 40s 1m20s 2m40s 5m0s 5m0s
// ... The window is half open: at its very end the key may be tried. After a
// streak has ended the next failure opens a window of Initial again.
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
//   - There is no GC to call: a streak that has ended is dropped by a later call,
//     when a streak's age has passed or the number of keys has doubled.
//   - flowcontrol has no counterpart of [Backoff.NotBefore].
//
// # Left out
//
// Nothing here sleeps and no goroutine runs; nothing is kept across restarts.
//
// [Images]: https://kubernetes.io/docs/concepts/containers/images/
package backoff
