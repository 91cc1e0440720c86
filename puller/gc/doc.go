// Package gc removes images that are not needed, as the kubelet's image garbage collection
// does, from any store that can list and remove its images.
//
// The one call most users need is [New]. Then call Round every few minutes:
//
//	collector, err := gc.New(gc.Config{Images: gc.FromStore(store), InUse: inUse})
//	p, err := puller.New(puller.Config{
//		Runtime: runtime,
//		Used:    func(image puller.Image) { collector.Used(image.ID) },
//	})
//	report, err := collector.Round(ctx)
//
// # Which images go
//
// A round first removes the images that were not used for Config.MaxAge, if that is set. If
// then Config.High percent of the file system are used or more, it removes the images that
// were not used for the longest time, one after another, until only Config.Low percent are
// used. The percentage is rounded up, as in the kubelet: with a High of 85, a round frees
// space if more than 84 percent are used. An image is never removed
//
//   - if it is in use, as Config.InUse says: by a container or as an image volume. If its
//     digest is in use, it stays also after its tags have moved to other images;
//   - if it is pinned, by the store or by Config.Pinned;
//   - if it came into the store or was used less than Config.MinAge ago. If [Collector.Used]
//     was called for it, it stays also after its tags have moved;
//   - if it has a name that no pull writes, because another program needs it.
//
// [Collector.Explain] says for each image that the store lists which of this applies, or
// which place it has in the order of removal.
//
// A file keeps the last use of each image; see Config.StateDir. It is written at most once a
// minute, and also after a round that has removed images and by [Collector.Close]. A use is
// lost if the process ends within that minute without Close. If the file is damaged, a round
// ends with an error and removes nothing. Without the file all images count as new.
//
// A pull that goes on during a round succeeds: package transfer fetches again what was
// removed between its look and its end. An image is kept if a pull has given it another
// name since the round listed it, or has given its name to another image. If a pull finds
// an image present in the same moment in which a round removes it, the pull returns an
// image that is gone, as in the kubelet. That can happen only to an image that was neither
// in use nor used within Config.MinAge.
//
// # Where the kubelet differs
//
// The order, the thresholds and the defaults are the kubelet's. In these points the kubelet
// of Kubernetes 1.36 to 1.38 beta decides otherwise, and AsKubelet restores its answer:
//
//	point                     the kubelet                             this package
//	an image never used       infinitely old for the maximum age,     as old as its pull or, without
//	                          also if it came a moment ago            Used, its first round
//	minimum age               counts from when it was first seen,     counts also from the last use,
//	                          and not for the maximum age             and for both ages
//	bytes that became free    the sum of the images' sizes, with      those that the store freed
//	                          shared layers counted again
//	the last use              in memory, lost at a restart; so no     in a file
//	                          image goes for its age before the
//	                          kubelet has run for the maximum age
//	records of pulls          are swept only after space was freed    are swept after each removal
//	an image cannot be        too old: the round ends before it       the round goes on
//	removed                   frees space
//
// Images that the kubelet sees first in the same round, and that were used at the same time,
// go in a random order there, and in the order of their IDs here. AsKubelet knows no runtime
// handlers, which are alpha in the kubelet (RuntimeClassInImageCriAPI). The list of images
// that Sweep gets is always the whole list of those that are left.
//
// # Left out
//
// The package does not know containers: Config.InUse does. It starts no goroutine that
// collects, and removes no stopped containers. It looks at bytes and not at inodes.
package gc
