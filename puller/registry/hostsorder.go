package registry

import (
	"maps"
	"slices"

	"github.com/pelletier/go-toml/v2/unstable"
)

// hostOrder lists the hosts of a hosts.toml as they stand in the file: their
// order is the order to ask them in, which a decoded map does not tell.
func hostOrder(data []byte, hosts map[string]hostTable) []string {
	var order []string
	note := func(key []string) {
		if len(key) < 2 || key[0] != "host" || slices.Contains(order, key[1]) {
			return
		}
		if _, ok := hosts[key[1]]; ok {
			order = append(order, key[1])
		}
	}
	var p unstable.Parser
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = keyOf(e)
			note(table)
		case unstable.KeyValue:
			key := append(slices.Clip(table), keyOf(e)...)
			note(key)
			if len(key) == 1 && e.Value().Kind == unstable.InlineTable {
				for it := e.Value().Children(); it.Next(); {
					note(append(slices.Clip(key), keyOf(it.Node())...))
				}
			}
		}
	}
	// Whatever way of writing was not thought of still has some order.
	for _, url := range slices.Sorted(maps.Keys(hosts)) {
		note([]string{"host", url})
	}
	return order
}

func keyOf(n *unstable.Node) []string {
	var key []string
	for it := n.Key(); it.Next(); {
		key = append(key, string(it.Node().Data))
	}
	return key
}
