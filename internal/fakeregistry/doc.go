// Package fakeregistry has the parts that pullkit's two registries for tests share: that of
// pullertest, which behaves well, and that of internal/scripted, which follows a script.
//
//   - ParsePath, Content and WriteError are the serving half of the distribution API.
//   - ServerCertificate makes the certificate of a TLS listener, and an Authority any number of
//     certificates.
//   - Layer and RandomBytes make content from a seed.
package fakeregistry
