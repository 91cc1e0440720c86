// Package pullertest is a registry for tests and demonstrations, and the tests
// that implementers of Pullkit's interfaces run.
//
// Most users need one call:
//
//	reg, err := pullertest.Start(pullertest.Config{})
//
// It starts a well-behaved registry on a loopback port: the pull half of the
// OCI distribution API, with or without Basic or Bearer authentication, over
// plain http or over TLS with an authority of its own. PutImage gives it images
// whose content is made from a seed, Counts says what was asked of it. Nothing
// in this package needs a *testing.T, so that programs can use it as well.
//
// With Config.Network the registry listens in a Network, which is a network in
// memory: a test in a testing/synctest bubble then waits without real time.
package pullertest
