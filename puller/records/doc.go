// Package records remembers whose credentials brought which image onto a node, so that
// one Pod does not use what another Pod's secret has pulled.
//
// The one call most users need is [Open], for the field Records of a puller.Config:
//
//	store, err := records.Open("/var/lib/agent/records")
//	p, err := puller.New(puller.Config{Runtime: runtime, Records: store})
//
// A puller.Puller writes the records and decides by them; package puller says how. The
// records themselves say nothing about images that were on the node before the records
// were: an image without a record, and without a note of a pull, was always there. So
// each pull is noted before it begins, and the note is taken back when the record of the
// pull is written. A note that a crash has left makes the image count as pulled, with
// access for no Pod.
//
// Implement [Store] to keep records elsewhere. [SecretID] and [Access] have the rules
// that every implementation needs: what makes two Secrets the same, what a hash is made
// of, and how access is added.
//
// # Left out
//
// Nothing here asks a registry or a store of images, and no record expires by itself:
// call puller.Puller.Sweep as often as the store is pruned. The records of the kubelet
// are not read.
package records
