// Package transfer pulls images. Its [Runtime] is a puller.Runtime that copies images
// from a content.Source, by default a registry.Client, into a content.Store, such as a
// layout.Layout.
//
// The one call most users need is [New]:
//
//	rt, err := transfer.New(transfer.Config{Store: store})
//	p, err := puller.New(puller.Config{Runtime: rt})
//
// # A pull
//
// A pull asks the registry for the manifest. If the answer is an index, the pull chooses
// the manifest for the platform. It calls Spec.Admit, fetches the blobs that the Store
// does not have, each digest once, and then tags the image. An image that is present and
// unchanged costs one HEAD, if the registry needs no token. Each pull asks for the manifest
// with its own credential.
//
// Blobs are fetched in parallel. Pulls of one Runtime that need the same blob share its
// fetch, which goes on as long as one of them waits for it. If the fetch fails for a
// reason that may be due to the credential of the pull that started it, the other pulls
// ask with their own credentials.
//
// A pull hashes each byte once. The goroutine that reads a small blob also hashes it. A large
// blob is hashed by a separate goroutine while other bytes of it are read and written. At
// most as many goroutines hash at the same time as there are processors. A connection reads
// the next bytes while the last ones are written.
//
// A large blob comes by one request. If the network brings it more slowly than it can be
// hashed and written, more connections fetch parts of it; see Config.MaxConnsPerBlob.
//
// When a pull ends early, the bytes that arrived are kept, and the next pull asks only
// for the rest. It hashes the kept bytes like all others. If the whole blob does not have
// its digest, the pull throws it away and fetches it again from its first byte.
//
// Memory does not depend on the sizes of blobs: buffers are reused, and those of all
// pulls together take at most Config.MaxMemory.
//
// A panic of the Source, the Store, Config.NewHash or Spec.Admit reaches each pull that
// waits for that call, as package puller documents for all callbacks. The Runtime can be
// used afterwards.
//
// # Left out
//
// Layers are not unpacked. Package rootfs unpacks them, even while a pull goes on. The
// Source waits for servers, asks again and chooses mirrors. A puller.Puller tries other
// credentials and backs off.
package transfer
