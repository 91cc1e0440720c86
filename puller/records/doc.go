// Package records remembers whose credentials brought which image onto a node, so that
// one Pod does not use what another Pod's secret has pulled.
//
// The one call most users need is [Open], for the field Records of a puller.Config:
//
//	store, err := records.Open("/var/lib/agent/records")
//	p, err := puller.New(puller.Config{Runtime: runtime, Records: store})
//
// A puller.Puller writes the records and decides by them; package puller says how. An
// image that has neither a record nor a note of a pull counts as preloaded: no pull that
// the records know of brought it. So each pull is noted before it begins, and the note is
// taken back when the record of the pull is written. If a crash
// leaves a note, the image counts as pulled, and no Pod has access to it.
//
// Implement [Store] to keep records elsewhere. [SecretID] and [Access] have the rules
// that every implementation needs: when two Secrets are the same, what is hashed, and how
// access is added.
//
// # Left out
//
// Nothing here asks a registry or a store of images, and no record expires by itself:
// call puller.Puller.Sweep as often as the store is pruned. The records of the kubelet
// are not read.
package records
