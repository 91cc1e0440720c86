// Package registry reads image registries over the OCI distribution API. It sends a
// credential to the registry that the credential was found for, to that registry's token
// server, and to no other server.
//
// The one call most users need is [New], once for the whole program. Package transfer
// takes the [Client]:
//
//	client, err := registry.New(registry.Config{CertsDir: "/etc/containerd/certs.d"})
//	rt, err := transfer.New(transfer.Config{Store: store, Source: client})
//
// A Client with the zero [Config] works for any registry on https. It sends no ping: a
// manifest or a blob is one request. A private repository costs one refusal and one token
// more, once.
//
// # Who sees a credential
//
// The Client sends Authorization with each request, to the exact origin (scheme, host and
// port) of the registry, and not after a redirect has left that origin. A 401 from another
// origin is an error, whatever it asks for.
//
// A registry may name a token server: its own origin, or any https server if the registry
// is https itself. Another one (http for an https registry, another host or port for a
// plain one) is refused unless AllowRealm allows it. User info and other schemes are
// always refused. Token requests follow no redirect to another origin. Tokens are kept for
// one credential, at one origin, for one repository. The Client understands Basic, Bearer
// by GET and by POST, identity tokens, registry tokens and anonymous tokens. A Bearer
// challenge that can be answered comes before Basic. A challenge is read strictly where it
// chooses who gets a secret, in its scheme and in the realm of Bearer, and otherwise as
// far as it can be read.
//
// The Client remembers what an origin requested of a credential, so that for the next
// repository it requests the token first. AllowRealm and the rules for addresses are
// applied each time. When the registry itself refuses a kept token by 400, 401 or 403, the
// token is thrown away, and one new token is requested for all callers that had it. Only
// the refusal of a new token counts against the credential.
//
// A token or a configured header that no header can carry is not sent. The first is the
// credential's fault (ErrUnauthorized), the second an error of New or, in a hosts.toml,
// ErrConfig.
//
// The Client never connects to link-local addresses and to the other addresses where clouds
// keep a machine's secrets. A registry on a public address cannot lead to a loopback,
// private or reserved one, by redirect or realm, unless AllowAddr, or AllowRealm for a
// realm, allows it. A registry that is private itself can, as on-premises registries do. An
// IPv6 address that carries an IPv4 address (NAT64, 6to4, Teredo and others) counts as the
// address that it carries. Addresses are checked when the Client connects, so that a name
// does not get around the rule. A request through a proxy is judged by the host's name.
//
// # Redirects
//
// The Client follows at most five redirects, and none from https to http, with one
// exception: a blob may come over http from a host that PlainHTTP lists. It waits for the
// body of a redirect no longer than a second.
//
// # Waiting and asking again
//
// After 408, 429, 5xx, failed connections, early ends and stalls the Client asks again:
// after half a second, doubling, with jitter, three times in a row without anything new.
// With each new byte the count begins again, so that a blob whose connection is cut every
// few megabytes arrives as long as each answer brings some of it. The blob is continued at
// its own offset by a Range with an end, with the rules of 206, 200 and 416. A 206 that
// does not know the total is taken if its range fits.
//
// The Client does not ask again after 401 (once it has sent the credential), 403, 404, any
// other status or a bad document, or if the host's name does not exist. If a manifest's
// HEAD is refused, one GET follows, and its answer counts; but not after 429, and not after
// the refusal of a password that was sent with the HEAD.
//
// The Client obeys Retry-After, in seconds or as a date, up to MaxWait. A longer wait is
// returned in content.Error.RetryAfter. It cuts an answer that brings nothing for
// StallTimeout, and one that brings less than 1 KiB/s over twice that. A host from which a
// blob comes more slowly than that, twice in a row, is given up: a mirror for the next
// host, and for five minutes. From the blob's first request on, all time counts but what
// the caller and the host's own Retry-After take, each within a limit; see
// Config.StallTimeout. Errors are those of package content.
//
// The Client reads at most 4 MiB of a manifest, 1 MiB of a token answer, 1 MiB of headers,
// and 64 KiB of an error's body. It reads a blob one byte past its size and no further. It
// unpacks nothing: an answer with a Content-Encoding is refused.
//
// # Mirrors
//
// Config.Registries, or containerd's hosts.toml files below CertsDir, put mirrors before a
// registry. They are asked in order, the registry last. When a mirror fails, the next host
// is asked at once, a blob from the offset that it had reached. A connection that was cut
// after new bytes is made again. A mirror that cannot be reached is left out for half a
// minute. One that gave something else than the blob (other bytes, more or fewer of them,
// a page) is left out for ten minutes and for that digest. A pull fails only when the
// registry itself has failed. Mirrors get ?ns= with the registry's name, so that the caches
// and peers that containerd can use work here.
//
// Spegel, on each node, finds images on other nodes:
//
//	# certs.d/_default/hosts.toml
//	[host."http://127.0.0.1:30020"]
//	  capabilities = ["pull", "resolve"]
//	  dial_timeout = "200ms"
//
// Dragonfly has a dfdaemon on each node that serves pieces to others:
//
//	# certs.d/docker.io/hosts.toml
//	server = "https://registry-1.docker.io"
//	[host."http://127.0.0.1:4001"]
//	  capabilities = ["pull", "resolve"]
//	  [host."http://127.0.0.1:4001".header]
//	    X-Dragonfly-Registry = ["https://registry-1.docker.io"]
//
// A pull-through cache for a fleet is here docker-registry with proxy.remoteurl. A project
// of Harbor has a path of its own and needs override_path:
//
//	# certs.d/docker.io/hosts.toml
//	server = "https://registry-1.docker.io"
//	[host."https://cache.example:5000"]
//	  ca = "cache-ca.crt"
//	[host."https://harbor.example/v2/dockerhub"]
//	  override_path = true
//
// These hosts, and no others, are asked over plain http if the file says so. A host without
// the capability "resolve" is not asked what a tag is, only for content by digest, which is
// verified. A mirror never gets the registry's credentials. Its own come from
// Config.MirrorKeyring, which is asked with the name that the image has there
// (cache.example:5000/library/nginx, harbor.example/dockerhub/library/nginx). If a mirror
// has the image, the mirror decides who may pull it.
//
// # TLS
//
// Each host has its own authorities, client certificates and skip_verify. The authorities
// of a host are also trusted where its answers lead (its token server, its storage). Its
// client certificates, headers and skip_verify are for the host itself alone. Only a
// registry on loopback that PlainHTTP does not list is asked over http after https, and
// only if it answers a TLS handshake with something else than TLS. A wrong certificate is
// an error there, too, and so is a connection that breaks; and no such request goes through
// a proxy.
//
// Manifests, tokens and small blobs go over HTTP/2 if the server speaks it, and share a
// connection. From 1 MiB on, a blob or a part of one has an HTTP/1.1 connection of its own,
// so that several at a time are faster than one. The Client keeps connections for later
// requests; CloseIdleConnections closes them. It remembers some 2,000 registries and keeps
// some 250 idle connections in all. The longest idle go first, and those in use stay.
//
// # Panics
//
// A panic of a callback (Proxy, DialContext, AllowRealm, AllowAddr, a transport of
// WrapTransport, a keyring) reaches each call that waits for it, also if several calls wait
// for one token. It is a *puller.PanicError if the callback ran in another goroutine. If a
// connection of DialContext panics later, while it is read, the panic is not caught.
//
// # Left out
//
// Pushing, listing tags, unpacking, and layers that a manifest has elsewhere (urls in a
// descriptor are not followed).
package registry
