// Package transfer pulls images. Its [Runtime] is the puller.Runtime that brings what a
// content.Source gives, by default a registry.Client, into a content.Store, such as a
// layout.Layout.
//
// The one call most users need is [New]:
//
//	rt, err := transfer.New(transfer.Config{Store: store})
//	p, err := puller.New(puller.Config{Runtime: rt})
//
// # A pull
//
// A pull asks the registry for the manifest. If that is an index, it chooses the
// manifest for the platform. It asks Config.Admit, fetches the blobs that the Store does
// not have, each digest once, and tags the image last. An image that is present and
// unchanged costs one HEAD. Each pull asks for the manifest with its own credential.
//
// Blobs are fetched in parallel. Pulls of one process that need the same blob share its
// fetch, which goes on as long as one of them waits for it. If the fetch fails for a
// reason that may be due to the credential of the pull that began it, the others ask with
// their own.
//
// Each byte is hashed once. A small blob is hashed by the goroutine that reads it, a large
// one by a goroutine of its own while other bytes are read and written. At most as many
// goroutines hash at the same time as there are processors. If large blobs come over fewer
// connections than that, a connection reads the next bytes while the last ones are
// written. A large blob that comes more slowly than it can be hashed and written is fetched
// in parts over more connections.
//
// When a pull ends early, the bytes that arrived are kept, and the next pull asks only for
// the rest. Kept bytes are hashed like all others. If the whole blob does not have its
// digest, it is thrown away and fetched once more from its first byte.
//
// Memory does not depend on the sizes of blobs: buffers are used again, within
// Config.MaxMemory over all pulls.
//
// A panic of the Source, the Store, Config.NewHash or Config.Admit reaches each pull that
// waits for it, as package puller documents for all callbacks. The Runtime can be used
// afterwards.
//
// # Left out
//
// Layers are not unpacked. A Source waits for servers, asks again and chooses mirrors.
// A Puller tries other credentials and backs off.
package transfer
