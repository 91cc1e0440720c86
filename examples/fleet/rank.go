package main

import (
	"cmp"
	"hash/fnv"
	"slices"

	"github.com/opencontainers/go-digest"
)

// fanOut is how many nodes ask one node for a blob, as long as no node fails.
const fanOut = 4

// order returns all nodes in the order in which they are responsible for a digest, by
// rendezvous hashing: each node gets a score for the digest, and the highest score comes
// first. Nodes that know different members still agree about the order of any two members, so
// nodes that ask only nodes before them never wait for each other in a circle. If a node comes
// or goes, another node becomes the first one only for that node's share of the digests.
func order(nodes []string, d digest.Digest) []string {
	type scored struct {
		node  string
		score uint64
	}
	all := make([]scored, len(nodes))
	for i, node := range nodes {
		all[i] = scored{node, score(node, d)}
	}
	slices.SortFunc(all, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.node, b.node))
	})
	names := make([]string, len(all))
	for i, s := range all {
		names[i] = s.node
	}
	return names
}

// score returns the score of a node for a digest.
func score(node string, d digest.Digest) uint64 {
	h := fnv.New64a()
	h.Write([]byte(d))
	h.Write([]byte{0})
	h.Write([]byte(node))
	s := h.Sum64()
	// The last bytes of the input hardly reach the upper bits of FNV.
	s ^= s >> 33
	s *= 0xff51afd7ed558ccd
	s ^= s >> 33
	s *= 0xc4ceb9fe1a85ec53
	return s ^ s>>33
}

const (
	// maxBefore is how many of the nodes before it a node asks for a blob.
	maxBefore = 8
	// maxAfter is how many of the nodes after it the first node of a digest asks.
	maxAfter = 3
)

// nodesToAsk returns the nodes that the node self asks for the blob of a digest, before the registry.
//
// before are nodes that come before self in the order of the digest. They let self wait until
// they have the blob themselves. First come the nodes on the way to the first node of the
// order, in a tree in which each node has fanOut branches, so that no node has to serve all
// others. Then come other nodes before self.
//
// after is set if self is the first node of the order, which fetches the blob from the
// registry for all others. It first asks the next ones in the order whether they have the blob
// already, because one of them was the first node before self joined.
func nodesToAsk(nodes []string, self string, d digest.Digest) (before, after []string) {
	names := order(nodes, d)
	rank := slices.Index(names, self)
	switch {
	case rank < 0:
		return nil, nil
	case rank == 0:
		return nil, names[1:min(1+maxAfter, len(names))]
	}
	for at := rank; at > 0 && len(before) < maxBefore; {
		at = (at - 1) / fanOut
		before = append(before, names[at])
	}
	for _, name := range names[:rank] {
		if len(before) < maxBefore && !slices.Contains(before, name) {
			before = append(before, name)
		}
	}
	return before, nil
}
