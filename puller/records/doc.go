// Package records remembers whose credentials have pulled which image onto a node, so that
// a Pod does not use an image that another Pod's secret has pulled.
//
// The one call most users need is [Open], for the field Records of a puller.Config:
//
//	store, err := records.Open("/var/lib/agent/records")
//	p, err := puller.New(puller.Config{Runtime: runtime, Records: store})
//
// A puller.Puller writes the records and decides by them; package puller says how. An image
// with neither a record nor a note of a pull counts as preloaded: no pull that the records
// know of brought it. So the Puller notes each pull before it starts. It removes the note
// when it has written the record of the pull, or when the pull has failed. If a crash leaves
// a note, the image counts as pulled, and only an earlier record can give a Pod access to it.
//
// A record also has the digests of what is public, for package serve; see [Access].
//
// [OpenKubelet] reads the records of a kubelet. With them in puller.Config.Records,
// puller.Puller.Explain says why a Pod of that node may or may not use an image that is
// present.
//
// Implement [Store] to keep records elsewhere. [SecretID] and [Access] have the rules
// that every implementation needs: when two Secrets are the same, what is hashed, and how
// access is added.
//
// # Left out
//
// The package asks no registry and no store of images. Records do not expire: call
// puller.Puller.Sweep whenever the store is pruned. The package does not write the records
// of the kubelet.
package records
