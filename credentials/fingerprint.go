package credentials

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
)

// processSeed is one seed for all keyrings of the process, so that two keyrings
// built apart from the same secrets have the same fingerprint.
var processSeed = sync.OnceValue(maphash.MakeSeed)

// hash adds what makes c authenticate as it does. Each part carries its length,
// so that no two credentials look alike to the hash.
func (c Credential) hash(h *maphash.Hash) {
	hashString(h, c.Username)
	hashString(h, c.Password.Reveal())
	hashString(h, c.IdentityToken.Reveal())
	hashString(h, c.RegistryToken.Reveal())
}

// print is c's Note.Print.
func (c Credential) print() uint64 {
	var h maphash.Hash
	h.SetSeed(processSeed())
	c.hash(&h)
	return h.Sum64()
}

func hashString(h *maphash.Hash, s string) {
	hashUint(h, uint64(len(s)))
	h.WriteString(s)
}

func hashUint(h *maphash.Hash, n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	h.Write(b[:])
}
