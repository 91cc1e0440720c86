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
// whose content is made from a seed, Counts says what was asked of it.
//
// Play starts the other kind of registry: one that plays a Scenario, and cuts,
// stalls, lies or asks for credentials as that says. It logs every request and
// the secrets in it. TestScenario plays a scenario to any puller, in the same
// process or a program, and judges what came of it: the outcome, the requests,
// the store and where secrets went. The scenarios that Pullkit itself is tested
// with are in testdata/vectors.
//
// TestRuntime, TestSource and TestStore test implementations of puller.Runtime,
// content.Source and content.Store, and return what is wrong as one error.
//
// With a Network, which is a network in memory, both kinds of registries wait
// without real time in a testing/synctest bubble. Without one they listen on
// loopback. Nothing in this package needs a *testing.T, so that programs can use
// it as well; nothing in it is made to be reached from other machines: there is
// no limit on clients, nothing can be pushed, and all content is kept in memory.
package pullertest
