package registry

import "iter"

// A recent is a map of bounded size that forgets what was not used for longest. It
// keeps two maps: what was used lately, and what was used before that. When the first
// is full it takes the place of the second, whose rest is forgotten. The zero recent
// is empty and holds maxAuths entries at most. It has no lock of its own.
type recent[K comparable, V any] struct {
	lately, before map[K]V
}

// get returns the value of k, and counts as a use.
func (r *recent[K, V]) get(k K) (V, bool) {
	v, ok := r.lately[k]
	if ok {
		return v, true
	}
	if v, ok = r.before[k]; ok {
		r.put(k, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(k K, v V) {
	if _, known := r.lately[k]; !known && len(r.lately) >= maxAuths/2 {
		r.lately, r.before = nil, r.lately
	}
	if r.lately == nil {
		r.lately = map[K]V{}
	}
	delete(r.before, k)
	r.lately[k] = v
}

func (r *recent[K, V]) delete(k K) {
	delete(r.lately, k)
	delete(r.before, k)
}

func (r *recent[K, V]) len() int { return len(r.lately) + len(r.before) }

// all yields the entries, which does not count as a use.
func (r *recent[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		for _, m := range []map[K]V{r.lately, r.before} {
			for k, v := range m {
				if !yield(k, v) {
					return
				}
			}
		}
	}
}
