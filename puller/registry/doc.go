// Package registry reads image registries over the OCI distribution API. It sends a
// credential to the registry that the credential was found for, to that registry's token
// server, and to no other server.
//
// The one call most users need is [New], once for the whole program. Package transfer
// takes the [Client]:
//
//	client, err := registry.New(registry.Config{HostsReader: certsd.Dir("/etc/containerd/certs.d")})
//	rt, err := transfer.New(transfer.Config{Store: store, Source: client})
//
// A Client with the zero [Config] works for any registry on https. It sends no ping: to
// read a manifest or a blob it sends one request. The first request to a private repository
// also costs one refused request and one token request.
//
// # Who sees a credential
//
// A request for content carries the Authorization header only to the exact origin (scheme,
// host and port) of the registry or mirror that the credential was found for. The Client
// does not send the header again after a redirect has left that origin. A 401 from another
// origin is an error; its challenge is not answered.
//
// A registry may name a token server (the realm of its challenge) at its own origin. A
// registry on https may also name any other https server. Every other token server (an
// http server for a registry on https, a server at any other origin for a registry on
// http) is refused unless Config.AllowRealm allows it. A realm that has user info, or that
// is neither http nor https, is always refused. A token request does not follow a redirect
// to another origin.
// Tokens are kept for one credential, at one origin, for one repository. The Client
// understands Basic, Bearer by GET and by POST, identity tokens, registry tokens and
// anonymous tokens. If an answer has several challenges, a Bearer challenge that can be
// answered comes before Basic. The scheme of a challenge and the realm of a Bearer
// challenge choose the server that gets a secret, so they are read strictly. The rest
// of a challenge is read as far as possible.
//
// The Client remembers what an origin requests for a credential: a password, a token or
// nothing. For the next repository at that origin it gets the token before the first
// request, so 20 private repositories cost one refusal and not 20. If a repository needs
// something else, the pull costs one more request, and the Client forgets what it
// remembers of the origin. AllowRealm and the rules for addresses are applied each time.
// When the registry itself refuses a kept token by 400, 401 or 403, the token is thrown
// away, and one new token is requested for all callers that had it. Only the refusal of a
// new token counts against the credential.
//
// A value with characters that no header can carry is not sent. For a token the error is
// content.ErrUnauthorized. For a configured header it is an error of New or, if the header
// comes from a HostsReader such as a hosts.toml, content.ErrConfig. A configured Host,
// Connection, Transfer-Encoding or other header about the connection is the same error.
//
// The Client never asks a host at a link-local address or at another address where clouds
// serve a machine's secrets. A redirect or a realm from a registry on a public address
// must not lead to a loopback, private or reserved address, unless Config.AllowAddr
// (or, for a realm, AllowRealm) allows it. A registry on a private address may lead to
// such an address, because on-premises registries do that. An IPv6 address that carries
// an IPv4 address (NAT64, 6to4, Teredo and others) counts as the address that it
// carries. The Client checks each address when it connects, so that a host name which
// resolves to a forbidden address is refused, too. For a request through a proxy the
// Client checks only the host that is written in the URL; the proxy may have any address.
//
// # Redirects
//
// The Client follows at most five redirects. It follows a redirect from https to http
// only for a blob, and only to a host that PlainHTTP lists. It waits at most one second
// for the body of a redirect.
//
// If a registry redirects a blob, often to a signed URL, the Client does not ask the
// registry for each part of the blob. It keeps the URL that the redirect led to, for that
// blob, repository, host and credential, and sends the requests for other parts to that
// URL. It keeps the URL for five minutes at most, and no longer than the redirect's
// Cache-Control or Expires allows. A URL of more than 8 KiB is not kept. If a kept URL
// does not serve the bytes that were asked for, the Client forgets it and asks the
// registry in the same try. That is so if the answer has a status of refusal or failure,
// if no answer comes, and if the answer does not announce these bytes. A URL whose answer
// is too slow, or is cut before it has brought 1 MiB, is forgotten, too. All rules for
// redirects hold at each use of the URL: no Authorization is sent, and addresses are
// checked when they are dialled. No error and no log shows the query of the URL. If the
// server repeats a value of 8 bytes or more from the query in a text of its own, the value
// is masked, unless the host or the path of the URL has the value, too. That holds for the
// 32 longest values of a query.
//
// # Waiting and asking again
//
// The Client asks a registry again after 408, 429 and 5xx, after a failed connection, and
// after an answer that ended early or stalled. The first delay is half a second, and each
// further delay is twice as long, up to 32 seconds; each is multiplied by a random factor
// from 0.5 to 1.5. By default the Client gives up after three further tries in a row that
// brought nothing new; see Config.Retries. Each new byte resets that count. A blob whose
// connection is cut every few megabytes therefore arrives, as long as each answer
// brings some of it. The Client continues a blob at the offset that it has reached, by
// a Range header with an end, and checks the answer as RFC 9110 defines 206, 200 and
// 416. A 206 with an unknown total is accepted if its range fits.
//
// The Client does not ask again after 401 (once it has sent the credential), 403, 404,
// any other status or a bad document, after a failure of TLS such as a certificate that is
// not trusted, or if the host's name does not exist. An answer with the code
// TOOMANYREQUESTS counts as a 429, with any status. If a HEAD for a manifest is refused,
// one GET follows, and the answer to the GET counts. A GET does not follow after 429, after
// a Retry-After that is longer than MaxWait, or if the registry or its token server has
// refused the password that went with the HEAD.
//
// The Client obeys the Retry-After of a 408, 429 or 5xx, in seconds or as a date, up to
// MaxWait. A longer wait is returned in content.Error.RetryAfter. A wait of 0 seconds means
// the Client's own delay. After 429 without Retry-After the first delay is 3 to 4.5 seconds,
// because a limit of 20 requests a minute allows one more request each 3 seconds. Calls that
// wait for the same limit try again 3 seconds apart. A call whose turn would come after more
// than half a minute tries again at a random time before that.
//
// For a minute after a host answered 429 or 503, the Client requests no part of a blob from
// it while another body of the blob is open there, for the same repository and credential.
// A call of Blob with n >= 0 then fails at once, with that status, unless another host has
// the blob, because the limit counts requests and the rest of the blob comes sooner over
// the open body. All other calls of Blob wait as described above.
//
// The Client cuts an answer that brings nothing for StallTimeout, or less than 1 KiB/s
// over twice that time. A host that is too slow for a blob twice in a row is given up. If
// that host is a mirror, the next host is asked, and the mirror is left out for five
// minutes. All time from the blob's first request on counts, except the caller's own time
// and the waits that the host orders by Retry-After, each up to a limit; see
// Config.StallTimeout. Errors are those of package content.
//
// The Client reads at most 4 MiB of a manifest, 1 MiB of a token answer, 1 MiB of
// headers, and 64 KiB of an error's body. A token may have at most 64 KiB. Of an answer
// the Client reads at most one byte more than the blob has. A host that ignores Range, so
// that it sends bytes again, is given up after it has sent four times the size of the blob
// again. The Client does not unpack an answer: an answer with a Content-Encoding is refused.
//
// # Mirrors
//
// Config.Registries, or containerd's hosts.toml files, which package certsd reads, put mirrors
// before a registry. Mirrors are asked in their order, and the registry is asked last.
// When a mirror fails, the next host is asked at once, and a blob continues at the
// offset that it has reached. If a connection was cut after it brought new bytes, the
// same mirror is asked again. A mirror that cannot be reached, does not answer, or answers
// 408, 429 or 5xx is left out for half a minute. If its answer has a Retry-After, the mirror
// is left out for as long as that says, up to five minutes. A mirror that sent something
// else than the blob (other bytes, more or fewer
// bytes, a web page) is left out for that digest for ten minutes. A pull fails only
// when the registry itself has failed. A request to a mirror has the registry's name in
// ?ns=, as a request of containerd has, so that caches and peers for containerd work
// with this Client, too.
//
// Spegel runs on each node and finds images on other nodes:
//
//	# certs.d/_default/hosts.toml
//	[host."http://127.0.0.1:30020"]
//	  capabilities = ["pull", "resolve"]
//	  dial_timeout = "200ms"
//
// Dragonfly runs a dfdaemon on each node, which serves pieces of images to other nodes:
//
//	# certs.d/docker.io/hosts.toml
//	server = "https://registry-1.docker.io"
//	[host."http://127.0.0.1:4001"]
//	  capabilities = ["pull", "resolve"]
//	  [host."http://127.0.0.1:4001".header]
//	    X-Dragonfly-Registry = ["https://registry-1.docker.io"]
//
// A project of Harbor is a pull-through cache with a path of its own, which needs
// override_path:
//
//	# certs.d/docker.io/hosts.toml
//	server = "https://registry-1.docker.io"
//	[host."https://harbor.example/v2/dockerhub"]
//	  override_path = true
//
// A registry that needs no login can have nginx in front as a cache. The lock makes nginx
// fetch each blob once, also if all nodes ask for it at the same time:
//
//	proxy_cache_path /var/cache/images keys_zone=images:10m max_size=100g inactive=7d use_temp_path=off;
//	server {
//		listen 5000;
//		location /v2/ { proxy_pass https://registry.example; }
//		location ~ ^/v2/.+/blobs/ {
//			proxy_pass https://registry.example;
//			proxy_cache images; proxy_cache_key $uri; proxy_cache_valid 200 7d;
//			proxy_cache_lock on; proxy_cache_lock_timeout 10m; proxy_cache_lock_age 10m;
//		}
//	}
//
// Varnish fetches a blob once for all that wait without a setting for that:
//
//	vcl 4.1;
//	backend registry { .host = "registry.example"; .port = "80"; }
//	sub vcl_recv {
//		if (req.url !~ "/blobs/") { return (pass); }
//		unset req.http.Authorization;
//		set req.url = regsub(req.url, "\?.*$", "");
//	}
//	sub vcl_backend_response { set beresp.ttl = 7d; }
//
// nginx and Varnish give every client what they have, so they are for public images. They
// cache nothing of a registry that redirects blobs to a storage. A cache of the program docker-registry
// (distribution) 2.8 makes a cold start of many nodes worse: while it fetches a blob it
// fetches the blob again for each other request. Six nodes that started at the same time
// fetched seven times the image from the registry.
//
// A host of a hosts.toml is asked over plain http if its URL there begins with http://.
// A host without the capability "resolve" is asked only for content by digest, which is
// verified, and not for what a tag points to. If a mirror has the image, that mirror
// decides whether the caller may pull it; see Config.NoMirrorForPrivate.
//
// A mirror never gets the registry's credentials. It gets those that the keyring of the
// request (content.Repo.Mirrors, which a puller.Puller sets) and then Config.MirrorKeyring
// have for the name of the image at the mirror (cache.example:5000/library/nginx,
// harbor.example/dockerhub/library/nginx). So a pull secret whose key is harbor.example
// opens that mirror for the Pods that have the secret. Tokens, and the credential that
// opened a repository last, are kept for the fingerprint of the request's keyring, so that
// no request uses what another Pod's secret has opened. The Opening of a document says which
// mirror gave it to the caller, and with which credential. The records of a Puller say which
// Pods may use the image because of that.
//
// # Signatures
//
// Client.Referrers lists what refers to a manifest: signatures, attestations, SBOMs. It
// works with registries that have the referrers API of the OCI distribution specification
// 1.1. For a registry without that API it reads the tag sha256-<hex>, in which clients keep
// the list. It also finds the tags of cosign. A mirror is asked only if its capabilities have "referrers", or
// if none are set, and if a mirror lists nothing, the next host is asked.
//
// # Hosts that are found at run time
//
// Config.Find returns hosts for a digest, for example the other nodes of a cluster that
// have the content, as examples/fleet finds them. Such a host serves content by digest
// only, which is verified, and says nothing about who may have it. So the Client asks the
// registry, or a mirror of the configuration, first: with the credential of the call, for
// the document that the name points to, even if the name has a digest. The document comes
// with a Confirmation. The caller passes it on in the Repo of its calls for the content that
// the document names; package transfer does that. A found host gets anonymous requests. See the comment of Find for what happens if a host
// fails or is busy.
//
// If all nodes ask the same host first, that host serves all of them. A Find that gives each
// digest another order of the nodes, as rendezvous hashing does, divides the work, and
// lets each node ask one that is before it in that order.
//
// # TLS
//
// Each host has its own authorities, client certificates and skip_verify. The
// authorities of a host are also trusted where its answers lead (its token server, its
// storage). Its client certificates, headers and skip_verify are for the host itself
// only.
//
// The Client falls back from https to http for one kind of host only: a registry on
// loopback that PlainHTTP does not list, and only if it answers a TLS handshake with
// something else than TLS. A wrong certificate or a broken connection is an error on
// loopback, too. The http request never goes through a proxy.
//
// Manifests, tokens and small blobs go over HTTP/2 if the server speaks it, and share a
// connection. A request for 1 MiB of a blob or more has an HTTP/1.1 connection of its
// own, because blobs over several connections are faster than blobs over one.
//
// If a host on https takes 20 ms or more to answer the GET of a manifest by 200 or 401, the
// Client opens ten connections for blobs to it at the same time, while the token and the
// manifests are on their way. They are opened only to the host itself, under the same rules as any
// other connection. No request is sent over them until a blob is asked for. Connections
// that are unused after ten seconds are closed. If none of them was used, the Client
// opens no others ahead to this host for ten minutes. It does not open connections in
// this way through a proxy, to hosts that redirect blobs or limit requests, or after a
// HEAD, and a request through a proxy does not use them. Connections without deadlines,
// as some tunnels have them, are closed instead of used.
//
// The Client keeps connections for later requests; CloseIdleConnections closes them. It
// remembers about 2,000 registries and keeps about 250 idle connections in all. It drops
// first what is idle longest, and nothing that is in use.
//
// # Panics
//
// A panic of a callback (HostsReader, Find, Proxy, DialContext, AllowRealm, AllowAddr, a
// transport of WrapTransport, a keyring) becomes a panic of each call that waits for the
// callback, even if several calls wait for one token. If the callback ran in another goroutine, the
// value of the panic is an error. The error shows the callback's value and the stack of
// the callback. If the callback's value is an error, errors.Is and errors.As find it
// there. A call of a puller.Puller panics with a *puller.PanicError instead.
//
// There are two exceptions. A panic of a connection that DialContext returned, while it
// is read, is not caught. A panic of a private key in Host.Certificates becomes an error
// of the call.
//
// # Left out
//
// The package does not push, list tags or unpack. It does not follow the urls of a
// descriptor, so it does not fetch a layer that is stored outside of the registry.
package registry
