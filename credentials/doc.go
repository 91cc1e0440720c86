// Package credentials finds the credentials that may open an image, in the order
// in which the kubelet tries them, and tries them.
//
//	secrets := credentials.FromSecrets(pullSecrets...)
//	node, err := credentials.ReadConfig(credentials.KubeletPaths("")...)
//	plugins, err := credentials.ReadProviders("/etc/kubernetes/providers.yaml", "/usr/libexec/providers")
//	ring := credentials.Join(secrets, node, plugins)
//	digest, err := credentials.Each(ctx, ring, ref, pullWith)
//
// [Each] is the call that most programs need: other libraries stop at the first
// credential, which is wrong where a Pod has several pull secrets.
//
// # Sources
//
//   - [Config]: a config.json, .dockercfg or auth.json file.
//   - [Secrets]: imagePullSecrets of both types, merged into one virtual file.
//   - [Providers]: exec credential provider plugins; [Helper]: docker-credential-*
//     programs. They run only when what stands before them has failed.
//   - [Static]: what the program itself knows.
//
// Any other type with the method of [Keyring] is a source as well.
//
// # Rules
//
// A key is a host with a port and a path; [Match] has its rules. Within a source
// candidates come in reverse byte order of their keys, so registry.io/team before
// registry.io, and that before *.io; equal keys in the order of the file. [Join]
// puts source after source, and a credential that was tried is not tried again.
//
// An entry that is malformed costs that entry only, and is reported by Problems.
//
// [Rules] has the kubelet's own answers where these differ: it matches paths by
// byte prefix, so that the password of registry.io/team goes to
// registry.io/team-b too, and fails a Pod's pull where one secret is malformed.
//
// # Secrets
//
// Nothing that holds a secret has a printed form: see [Sensitive]. No error of
// this package quotes one, nor the content of a file, a Secret or an answer.
//
// # Limits
//
// Files, Secrets and manifests of more than 8 MiB are refused, programs are
// killed after a minute or 1 MiB of output, and 10,000 answers are kept of a
// plugin. Nothing is kept between processes.
//
// # Left out
//
// The package does not talk to Kubernetes: Secrets, Pods and service-account
// tokens are handed to it. It stores no logins, and knows no cloud's own way to
// get a token: that is what plugins are for.
package credentials
