package main

import (
	"cmp"
	"hash/fnv"
	"slices"

	"github.com/opencontainers/go-digest"
)

// fanOut is how many nodes ask one node for a blob, as long as none of them fails.
const fanOut = 4

// order returns all nodes in the order in which they are responsible for a digest, by
// rendezvous hashing: each node gets a score for the digest, and the highest score comes
// first. Two nodes that know different members still agree about the order of any two of
// them, so nodes that ask only those before them never wait for each other in a circle.
// A node that comes or goes changes the first place of only its share of the digests.
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
	// maxAfter is how many of the nodes after it a node asks, if it is the first one.
	maxAfter = 3
)

// whom returns the nodes that the node self asks for a digest. before are nodes that come
// before it in the order of the digest, and may wait until they have the blob themselves:
// first those on the way to the first node in a tree of fanOut branches, so that no node
// has to serve all others, and then the others. The first node of the order fetches the
// blob from the registry, and nodes pull through it. It asks after for what they have
// already, because one of them was the first before this node joined.
func whom(nodes []string, self string, d digest.Digest) (before, after []string) {
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
