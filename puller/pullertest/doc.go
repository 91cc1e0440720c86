// Package pullertest is a registry for tests and demonstrations, and the tests
// that implementers of Pullkit's interfaces run.
//
// The one call most users need is [Start]:
//
//	reg, err := pullertest.Start(pullertest.Config{})
//
// It starts a well-behaved registry on a loopback port: the pull half of the
// OCI distribution API, over plain http or over TLS with an authority of its own.
//
// # Contents
//
// The package has:
//
//	what                                                      function
//	a registry that behaves: open, Basic or Bearer            Start
//	images whose content is made from a seed                  Registry.PutImage
//	what was asked of it, counted                             Registry.Counts
//	a registry that cuts, stalls, lies or asks, by a script   Play, Scenario
//	every request it got, with the secrets in it              Stage.Log
//	a scenario played to any puller, in process or a program  TestScenario
//	tests of a puller.Runtime                                 TestRuntime
//	tests of a content.Source                                 TestSource
//	tests of a content.Store                                  TestStore
//	a content.Store in memory                                 MemStore
//	a network in memory, for testing/synctest                 Network
//
// TestScenario judges what came of it: the outcome, the requests, the store and
// where secrets went. The scenarios that Pullkit itself is tested with are in
// testdata. TestRuntime, TestSource and TestStore return what is wrong as one
// error.
//
// With a Network both kinds of registries wait without real time in a
// testing/synctest bubble. Without one they listen on loopback. Nothing in this
// package needs a *testing.T, so that programs can use it as well.
//
// # Left out
//
// Nothing is made to be reached from other machines: there is no limit on clients,
// nothing can be pushed, and all content is kept in memory.
package pullertest
