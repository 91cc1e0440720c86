// Package pullertest is a registry for tests and demonstrations, and the tests for
// implementations of pullkit's interfaces.
//
// The one call most users need is [Start]:
//
//	reg, err := pullertest.Start(pullertest.Config{})
//
// It starts a well-behaved registry on a loopback port: the pull half of the OCI
// distribution API, over plain http or over TLS with an authority of its own.
// [Registry.PutImage] fills it with images whose content is made from a seed, and
// [Registry.Counts] says how many requests of each kind clients have sent.
//
// [TestRuntime], [TestSource] and [TestStore] test your own puller.Runtime,
// content.Source or content.Store, and return everything that is wrong as one error.
// [MemStore] is a content.Store in memory.
//
// A [Network] is a network in memory. In a testing/synctest bubble a registry that listens
// in it waits without real time. Nothing in this package needs a *testing.T, so programs
// can use it as well.
//
// # Left out
//
// The registry is not made for other machines: it has no limit on clients, nothing can
// be pushed, and all content is kept in memory.
package pullertest
