// Package scripted is a registry that misbehaves by a script, and the judge of the
// pullers that it is played to.
//
// A [Scenario] says what the registry serves, which requests it answers wrongly, and what
// a good puller does about it. [Play] starts its registry, a [Stage], whose log holds every
// request and the secrets in it. [TestScenario] plays a scenario to any puller, in this
// process or as a program, and judges what came of it: the outcome, the requests, the store
// and where secrets went.
//
// The scenarios that Pullkit is tested with are in testdata.
package scripted
