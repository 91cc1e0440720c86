// Package registry reads image registries over the OCI distribution API and
// gives nothing away while it does: a credential goes to the registry it was
// found for, to that registry's token server, and to nobody else.
//
// The one call most users need is transfer.New, with one [Client] for the whole
// program:
//
//	client := &registry.Client{CertsDir: "/etc/containerd/certs.d"}
//	rt := transfer.New(transfer.Config{Store: store, Source: client})
//
// The zero Client works for any registry on https. There is no ping; a manifest
// or a blob is one request, and a private repository costs one refusal and one
// token more, once.
//
// # Who sees a credential
//
// Authorization is attached request by request to the exact origin (scheme, host
// and port) of the registry, and no more once a redirect has left it. A 401 from
// anywhere else is an error, whatever it asks for. A registry may name a token
// server: its own origin, or any https server if it is https itself. Another one
// (http for an https registry, another host or port for a plain one) is refused
// unless AllowRealm allows it; user info and other schemes are always refused.
// Token requests follow no redirect to another origin, and tokens are kept for one
// credential, at one origin, for one repository. Basic, Bearer by GET and by POST,
// identity tokens, registry tokens and anonymous tokens are understood. A Bearer
// challenge that can be met comes before Basic. A challenge is read strictly where
// it chooses who gets a secret, in its scheme and in the realm of Bearer, and as far
// as it can be read in all else.
//
// What an origin wanted of a credential is remembered, so that the next repository
// asks for its token first; AllowRealm and the rules for addresses are applied each
// time. A kept token that the registry itself refuses by 400, 401 or 403 is thrown
// away, and one new token is fetched for all who had it. Only the refusal of a token
// that is new counts against the credential.
//
// A token or a configured header that no header can carry is not sent: the first is
// the credential's fault (ErrUnauthorized), the second the configuration's (ErrConfig).
//
// Link-local addresses and the other addresses where clouds keep a machine's secrets
// are never dialled. A registry on a public address cannot lead to a loopback, private
// or reserved one, by redirect or realm, unless AllowAddr, or AllowRealm for a realm,
// allows it; one that is private itself can, as on-premises registries do. An IPv6
// address that carries an IPv4 address (NAT64, 6to4, Teredo and others) counts as what
// it leads to. Addresses are checked when they are dialled, so a name is not a way
// round. What goes through a proxy is judged by its name.
//
// # Redirects
//
// At most five redirects are followed, and none from https to http, with one exception:
// a blob may come over http from a host that PlainHTTP lists. The body of a redirect is
// not waited for longer than a second.
//
// # Waiting and asking again
//
// 408, 429, 5xx, failed connections, early ends and stalls are asked again: after
// half a second, doubling, with jitter, three times in a row without anything
// new. A byte that is new begins the count again, so a blob whose connection is
// cut every few megabytes arrives as long as each answer moves on; it is continued
// by a closed Range at its own offset, with the rules of 206, 200 and 416; a 206 that
// does not know the total is taken if its range fits. Nothing is asked
// again after 401 (once the credential was shown), 403, 404, any other status, a
// bad document, or for a host whose name does not exist. A manifest's HEAD that is
// refused, but for 429 and for a password that was refused with it, is followed by
// one GET whose answer counts.
// Retry-After, in seconds or as a date, is obeyed up to MaxWait, and beyond that
// returned in content.Error.RetryAfter. An answer that brings nothing for Stall is
// cut, and so is one that comes at less than 1 KiB/s over twice that. A host from
// which a blob comes more slowly than that, twice in a row, is given up: a mirror for
// the next host, and for five minutes. All time from the blob's first request on
// counts but what the caller and the host's own Retry-After take, each within a limit;
// see Client.Stall. Errors are those of package content.
//
// Manifests have at most 4 MiB, token answers 1 MiB, headers 1 MiB, and of an
// error's body 64 KiB are read. A blob is read one byte past its size and no
// further. Nothing is unpacked: an answer with a Content-Encoding is refused.
//
// # Mirrors
//
// Hosts, or containerd's hosts.toml files below CertsDir, put mirrors before a
// registry. They are asked in order, the registry last. When a mirror fails, the
// next host is asked at once, a blob from the offset it had reached; a connection
// that was cut after bytes that are new is made again. A mirror that cannot be
// reached is left out for half a minute, one that gave something else than the blob
// (other bytes, more or fewer of them, a page) for ten minutes and for that digest. A
// pull ends only when the registry itself has failed. Mirrors get ?ns= with the registry's name, so the
// caches and peers that containerd can use work here:
//
// Spegel, on each node, which finds images on other nodes:
//
//	# certs.d/_default/hosts.toml
//	[host."http://127.0.0.1:30020"]
//	  capabilities = ["pull", "resolve"]
//	  dial_timeout = "200ms"
//
// Dragonfly, whose dfdaemon on each node serves pieces to others:
//
//	# certs.d/docker.io/hosts.toml
//	server = "https://registry-1.docker.io"
//	[host."http://127.0.0.1:4001"]
//	  capabilities = ["pull", "resolve"]
//	  [host."http://127.0.0.1:4001".header]
//	    X-Dragonfly-Registry = ["https://registry-1.docker.io"]
//
// A pull-through cache for a fleet, here docker-registry with proxy.remoteurl; a
// project of Harbor has a path of its own and needs override_path:
//
//	# certs.d/docker.io/hosts.toml
//	server = "https://registry-1.docker.io"
//	[host."https://cache.example:5000"]
//	  ca = "cache-ca.crt"
//	[host."https://harbor.example/v2/dockerhub"]
//	  override_path = true
//
// Plain http here is what the file says for these hosts, and for no other. A host
// without the capability "resolve" is not asked what a tag is, only for content by
// digest, which is verified. A mirror never gets the registry's credentials: its
// own come from Client.Mirrors, looked up by the name the image has there
// (cache.example:5000/library/nginx, harbor.example/dockerhub/library/nginx). Who
// may pull an image is then for the first host to say that has it.
//
// # TLS
//
// Each host has its own authorities, client certificates and skip_verify. The
// authorities of a host are also believed where its answers lead (its token server,
// its storage); its client certificates, headers and skip_verify stop at the host
// itself. Only a registry on loopback that PlainHTTP does not list is asked over http
// after https, and only if it answers a TLS handshake with something else than TLS. A
// wrong certificate is an error there, too, and so is a connection that breaks; and no
// such request goes through a proxy.
//
// Manifests, tokens and small blobs go over HTTP/2 where the server speaks it, and
// share a connection; from 1 MiB on a blob, or a part of one, has an HTTP/1.1
// connection of its own, so that several at a time are faster than one. Connections
// are kept for later requests; CloseIdleConnections lets them go. A Client remembers
// some 2,000 registries and keeps some 250 idle connections in all; the longest idle
// go first, and those in use stay.
//
// A panic of a callback (Proxy, DialContext, AllowRealm, AllowAddr, Transport, a keyring)
// reaches each call that waits for what it was called for, also where that is a token
// shared by several; as a *puller.PanicError where the callback ran in another goroutine.
// What a connection of DialContext panics with later, while it is read, is not caught.
//
// # Left out
//
// Pushing, listing tags, unpacking, and layers that a manifest has elsewhere (urls
// in a descriptor are not followed).
package registry
