// Package fakeregistry has the parts that pullkit's two registries for tests share: that of
// pullertest, which behaves well, and that of internal/scripted, which follows a script.
//
//   - ParsePath, Content and WriteError are the serving half of the distribution API.
//   - NewAuthority makes the certificate of a TLS listener.
//   - Layer and RandomBytes make content from a seed.
package fakeregistry
