package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
)

func names(n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf("10.0.%d.%d:5050", i/256, i%256))
	}
	return list
}

// Each node is the first one for about the same number of digests. If a node leaves, only the
// digests for which it was the first one get another first node.
func TestTheFirstNodesAreSpread(t *testing.T) {
	nodes := names(20)
	first := map[string]int{}
	for i := range 2000 {
		d := digest.FromString(fmt.Sprint(i))
		all := order(nodes, d)
		first[all[0]]++
		left := slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return n == nodes[3] })
		if all[0] == nodes[3] {
			assert.Equal(t, all[1], order(left, d)[0])
		} else {
			assert.Equal(t, all[0], order(left, d)[0])
		}
	}
	for _, n := range nodes {
		assert.InDelta(t, 100, first[n], 45, n)
	}
}

// Nodes that know different members never wait for each other in a circle, because each node
// waits only for nodes with a higher score.
func TestNodesWaitOnlyForNodesBeforeThem(t *testing.T) {
	all := names(50)
	d := digest.FromString("layer")
	for i, self := range all {
		known := slices.Clone(all)
		known = slices.DeleteFunc(known, func(n string) bool { return n != self && score(n, digest.FromString(fmt.Sprint(i)))%3 == 0 })
		before, after := nodesToAsk(known, self, d)
		for _, n := range before {
			assert.Greater(t, score(n, d), score(self, d))
		}
		if order(known, d)[0] == self {
			assert.Empty(t, before)
			assert.Len(t, after, maxAfter)
		} else {
			assert.NotEmpty(t, before)
			assert.Empty(t, after)
			assert.Equal(t, order(known, d)[0], order(append(before, self), d)[0], "the first node is among them")
		}
	}
}

// As long as no node fails, each node serves at most fanOut others, and there are few nodes
// between the first node and each other node.
func TestTheWorkIsDivided(t *testing.T) {
	for _, count := range []int{2, 20, 1000} {
		nodes := names(count)
		d := digest.FromString("layer")
		children, depth := map[string]int{}, map[string]int{}
		for _, self := range order(nodes, d)[1:] {
			before, _ := nodesToAsk(nodes, self, d)
			assert.LessOrEqual(t, len(before), maxBefore)
			children[before[0]]++
			depth[self] = depth[before[0]] + 1
		}
		deepest := 0
		for _, n := range nodes {
			assert.LessOrEqual(t, children[n], fanOut)
			deepest = max(deepest, depth[n])
		}
		assert.LessOrEqual(t, deepest, map[int]int{2: 1, 20: 2, 1000: 5}[count])
	}
}

func TestANodeThatIsNotAMemberAsksNoNode(t *testing.T) {
	before, after := nodesToAsk(names(3), "192.0.2.1:1", digest.FromString("x"))
	assert.Empty(t, before)
	assert.Empty(t, after)
	before, after = nodesToAsk([]string{"a:1"}, "a:1", digest.FromString("x"))
	assert.Empty(t, before)
	assert.Empty(t, after)
}
