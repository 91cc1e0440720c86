// Package serve gives the images of a store to other nodes. Its [Handler] is an
// http.Handler that is a registry for pulling only, so containerd, CRI-O, Docker, podman,
// skopeo, crane and pullkit pull from it with their own settings for mirrors. All of these
// except CRI-O and Docker were tried.
//
// The one call most users need is [New]:
//
//	h, err := serve.New(serve.Config{Store: store, Records: recs})
//	server := &http.Server{Addr: ":5050", Handler: h,
//		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
//	err = server.ListenAndServe()
//
// store is the layout.Layout into which the node pulls, and recs are the records of the
// node's puller.Puller.
//
// # What is served
//
// The part of the OCI distribution API (1.1) that pulling needs: GET and HEAD of /v2/, of
// manifests by tag and digest, and of blobs, with Range, If-None-Match, If-Match and
// If-Range. Everything else is refused: 405 with Allow for other methods, for lists of tags
// and for uploads, and 404 for the referrers API, because clients then look for the tag of
// the specification's referrers tag schema. Refusals have the form of the specification.
//
// A tag means what it meant when the image was last pulled. Clients that must know what it
// means now ask the registry for it, and this host for content by digest only: in
// containerd's hosts.toml with capabilities = ["pull"].
//
// # Who may have what
//
// By default only what is public is served, to every client. Both must be recorded in
// Config.Records: that the registry of the image itself, and not only a mirror, said
// without a credential what the name points to; and that the bytes came to this node
// without a credential. For everything else the answer is 404, as for what does not exist:
// for an image without a record, for one that a node's or a Pod's credential opened, and for
// one that only a mirror gave. Config.Allow decides about the rest. To give public images
// to some clients only, wrap the Handler.
//
// Public means without a credential, from where this node is. A registry that lets a node in
// by its address or its network needs none. Serve its images only to clients that may have
// them, by a handler around this one.
//
// A credential that the registry did not need counts, too. So a node that logs in to Docker
// Hub serves none of its images by default. Config.Allow can accept those of
// docker.io/library/, for example.
//
// A manifest or index is served under a repository only if a tag or a digest of that
// repository in the store leads to it. A blob is served under a repository only if such a
// manifest names it. These rules do not make a blob public that a stranger's manifest
// names, because the bytes of that blob did not come from the stranger. Bytes count only if
// one pull fetched all bytes of a blob. So a blob of a public image is not served if the
// pull that brought it was interrupted and continued, or if it came with a credential
// before.
//
// # Names
//
// The registry of an image is the parameter ns of the request, which containerd and pullkit
// send to mirrors. Without ns it is the first part of the path, if that is localhost or has
// a dot, with the port behind an underscore: /v2/registry.example_5000/team/app/... In all
// other cases it is Config.DefaultRegistry.
//
// # Clients
//
// containerd reads certs.d/docker.io/hosts.toml, and CRI-O and podman read registries.conf:
//
//	# hosts.toml
//	server = "https://registry-1.docker.io"
//	[host."http://10.0.0.7:5050"]
//	  capabilities = ["pull"]
//
//	# registries.conf
//	[[registry]]
//	prefix = "quay.io"
//	location = "quay.io"
//	[[registry.mirror]]
//	location = "10.0.0.7:5050/quay.io"
//	insecure = true
//
// Docker's registry-mirrors ask only for images of docker.io, which is the default
// registry. skopeo and crane pull 10.0.0.7:5050/quay.io/team/app. A pullkit client lists the
// host in registry.Hosts.
//
// # Load
//
// Config.Parallel limits how much is sent at the same time; above that the answer is 429
// with Retry-After, and clients ask the next host. containerd does that after five requests
// without a wait between them (2.4), or six (1.6). An answer may take as long as it takes,
// but each 128 KiB of it has a deadline, and a client that reads less than 32 KiB/s loses its
// place if another client needs one. On Linux and other systems with sendfile the system
// copies blobs from the file to the connection, unless it is a connection of TLS. The
// http.Server limits the header of a request and idle connections, so set its
// ReadHeaderTimeout and IdleTimeout, and leave WriteTimeout zero.
//
// # What is checked
//
// A manifest is hashed each time. A blob is not: a layout.Layout verified it when it was
// stored, and hashes it again if another program wrote to the file. A file that is too short
// is not served, and if it becomes too short while it is sent, the connection is cut. A fault
// of the disk may go unseen here, and the client finds it, because clients verify digests.
//
// # Pulling on request
//
// With Config.Puller an image that is missing is pulled, once for all that wait, if its
// registry is in Config.PullFrom. Do not let hosts that pull on request ask each other as
// mirrors: two of them could wait for each other until the time-out.
//
// # Left out
//
// The package does not push, list tags, find peers, or serve what is still arriving. It does
// not authenticate clients: Config.Allow or a handler around this one does.
package serve
