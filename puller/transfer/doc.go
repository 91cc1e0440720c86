// Package transfer pulls images: it is the puller.Runtime that brings what a
// content.Source gives, by default a registry.Client, into a content.Store, such
// as a layout.Layout.
//
// The one call most users need is [New]:
//
//	rt := transfer.New(transfer.Config{Store: store})
//	p, err := puller.New(puller.Config{Runtime: rt})
//
// # A pull
//
// A pull asks the registry for the manifest, chooses one for the platform if
// that is an index, asks Config.Admit, brings the blobs that the Store has not,
// each digest once, and tags the image last. An image that is there and
// unchanged costs one HEAD. Each pull asks for the manifest with its own
// credential.
//
// Blobs are fetched in parallel, and equal blobs once in the process, whichever
// pulls want them and whoever of them gives up; a failure that may be due to one
// pull's credential is not the others'.
//
// Each byte is hashed once, beside the I/O for large blobs, while small ones are
// hashed in the goroutine that reads them. At most as many goroutines hash as
// there are processors. While fewer connections bring large blobs than that, they
// read on while what they brought is written. A large blob that comes slower than
// it can be hashed and written is fetched in parts over more connections.
//
// What arrived is kept when a pull ends early, and the next pull asks for the
// rest alone. Kept bytes are hashed like all others: if the whole does not have
// the digest, it is thrown away and fetched once more from its first byte.
//
// Memory does not depend on the sizes of blobs: buffers are recycled, within
// Config.Memory over all pulls.
//
// A panic of the Source, the Store, Config.NewHash or Config.Admit reaches each pull that
// waits for it, as package puller documents for all callbacks, and the Runtime can be used
// on.
//
// # Left out
//
// Layers are not unpacked. Waiting, asking again and mirrors are the Source's
// part; other credentials and back-off are the Puller's.
package transfer
