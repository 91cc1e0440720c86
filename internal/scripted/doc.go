// Package scripted has a registry that misbehaves by a script, and judges what a puller
// does with it.
//
// A [Scenario] says what the registry serves, which requests it answers wrongly, and what
// a good puller does then. [Play] starts the registry of a scenario, which is a [Stage]. Its
// log has every request and the secrets in it. [TestScenario] plays a scenario to any
// puller, in this process or as a program, and judges the result: the outcome, the
// requests, the store, and where secrets went.
//
// The scenarios that Pullkit is tested with are in testdata.
package scripted
