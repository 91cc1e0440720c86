// Package metrics counts what a Puller does, for Prometheus, under the names that the kubelet
// has for the same things. It is a package to copy.
//
// The one call most users need is [New], whose Event is the Puller's Events:
//
//	m, err := metrics.New(metrics.Config{})
//	p, err := puller.New(puller.Config{Runtime: rt, Events: m.Event})
//	http.Handle("/metrics", promhttp.Handler())
//	http.Handle("/", metrics.Page(prometheus.DefaultGatherer))
//
// [Page] is the same as a page for a reader: what each metric means, and its values, in plain
// text.
//
// # The kubelet's metrics
//
//   - kubelet_image_pull_duration_seconds is how long pulls took that succeeded, without the
//     time in which they waited for their turn, by the size of the image. A pull that several
//     calls share counts once.
//   - kubelet_image_manager_ensure_image_requests_total counts requests for an image, by the
//     pull policy; by whether the image was present, which is unknown under Always, whose
//     requests do not ask the store; and by whether a pull was required, which is unknown
//     where the request ended before that was decided. Present and required are both true if
//     the image was present and the Pod had to prove that it may use it.
//
// Names, labels and buckets are those of Kubernetes 1.37. The kubelet has more metrics of its
// records of pulls, which a program learns from these records and not from events.
//
// # More metrics
//
//   - pullkit_image_requests_total counts requests for an image by how they ended, as the
//     kubelet's events say it: Pulled, Failed, BackOff, ErrImageNeverPull, InspectFailed. An
//     image that waits in back-off counts once for each request, as in the kubelet.
//   - pullkit_credential_failures_total counts credentials that did not open an image, by
//     the kind of their source (secret, file, helper, plugin, static, variable, or other for
//     the kinds of a Keyring of the program), and anonymous tries. If these are many while images are pulled, an earlier credential is
//     stale.
//   - pullkit_image_pulls_in_progress is how many requests wait for a registry now, their
//     turn included.
//   - pullkit_fetched_bytes_total and pullkit_resumed_bytes_total are the bytes of blobs that
//     became complete: those that this pull fetched, and those that were kept of an earlier
//     one. A blob that was in the store counts in neither.
//
// No label has the name of an image or of a Pod, so the number of series is bounded.
package metrics
