package records

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
)

// A Store keeps records and notes. [Dir] keeps them in a directory.
//
// Where a Store fails, a Puller asks the registry: an error grants no access. The methods
// may be called concurrently.
type Store interface {
	// Intend notes that a pull is about to begin, so that what a crash leaves in the
	// store does not look like an image that was always there. image is its name, a
	// space and the platform. The note is durable when Intend returns; done takes it
	// back. Calls for one image may overlap, each with a done of its own.
	Intend(ctx context.Context, image string) (done func() error, err error)
	// Intents yields what was noted and not taken back, by any process at any time.
	Intents(ctx context.Context) iter.Seq2[string, error]
	// Record returns what is known of the image with the given ID, which is the ID of
	// puller.Image. The error wraps
	// fs.ErrNotExist if it was never recorded.
	Record(ctx context.Context, id string) (Record, error)
	// Grant adds access to the record of id under name, which is an image's name
	// without tag and digest, and makes the record if there is none. It is durable
	// when Grant returns. Where there is a record that cannot be read, Grant makes
	// another one that is Incomplete, or fails.
	Grant(ctx context.Context, id, name string, access Access) error
	// Sweep drops the records last written before the given time for which stored
	// says that no image with that ID is in the store any more, and the notes of
	// pulls that were begun so long before it that they cannot still run.
	// puller.Puller.Sweep calls it, after it has made records of what those pulls left.
	Sweep(ctx context.Context, before time.Time, stored func(id string) bool) error
}

// A Record says who has shown that they may use one image.
type Record struct {
	ID      string            `json:"id"`      // as in puller.Image
	Updated time.Time         `json:"updated"` // when access was last added
	Names   map[string]Access `json:"names"`   // by the name it was pulled under, without tag and digest
	// Incomplete says that names may be missing, because an earlier record could not
	// be read: then no name of the image counts as one that was always there.
	Incomplete bool `json:"incomplete,omitempty"`
}

// Access is who may use an image under one name. The zero Access is for no Pod.
type Access struct {
	// Everybody means every Pod: the image was pulled without a credential, or with one
	// of the node's.
	Everybody       bool                         `json:"everybody,omitempty"`
	Secrets         []SecretID                   `json:"secrets,omitempty"`
	ServiceAccounts []credentials.ServiceAccount `json:"serviceAccounts,omitempty"`
}

// A SecretID names a pull secret, and what was in it.
type SecretID struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
	// Hash is a salted hash of the credential; see Matches. It opens the image for a
	// copy of the Secret too. "" stands for no content.
	Hash string `json:"hash,omitempty"`
}

// maxAccess is the number of secrets, and of service accounts, of one Access, as in the
// kubelet. For a Pod whose secret came later, the registry is asked each time.
const maxAccess = 100

// Full reports whether a has as many secrets as are kept. Merge adds no further one.
func (a Access) Full() bool { return len(a.Secrets) >= maxAccess }

// Merge returns a with what b adds. A Secret that is in a already gets the hash that b
// has for it.
func (a Access) Merge(b Access) Access {
	a.Everybody = a.Everybody || b.Everybody
	a.Secrets = slices.Clone(a.Secrets)
	for _, s := range b.Secrets {
		if i := slices.IndexFunc(a.Secrets, s.SameObject); i >= 0 {
			a.Secrets[i].Hash = s.Hash
		} else if !a.Full() && !slices.Contains(a.Secrets, s) {
			a.Secrets = append(a.Secrets, s)
		}
	}
	a.ServiceAccounts = slices.Clone(a.ServiceAccounts)
	for _, s := range b.ServiceAccounts {
		if len(a.ServiceAccounts) < maxAccess && !slices.Contains(a.ServiceAccounts, s) {
			a.ServiceAccounts = append(a.ServiceAccounts, s)
		}
	}
	return a
}

// NewSecretID names the Secret that cred is from, with a hash of what is in it.
func NewSecretID(cred credentials.Credential) SecretID {
	s := SecretID{Namespace: cred.Origin.Namespace, Name: cred.Origin.Name, UID: cred.Origin.UID}
	if !cred.Anonymous() {
		var salt [16]byte
		rand.Read(salt[:])
		s.Hash = hash(salt[:], cred)
	}
	return s
}

// SameObject reports whether s and t are one Secret, whatever is in it. A Secret without
// a UID is the same as no other.
func (s SecretID) SameObject(t SecretID) bool {
	return s.UID != "" && s.UID == t.UID && s.Namespace == t.Namespace && s.Name == t.Name
}

// Matches reports whether s.Hash was made of cred. The anonymous credential matches
// nothing.
func (s SecretID) Matches(cred credentials.Credential) bool {
	salt, _, ok := strings.Cut(s.Hash, "$")
	if !ok || cred.Anonymous() {
		return false
	}
	raw, err := base64.RawStdEncoding.DecodeString(salt)
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(hash(raw, cred)), []byte(s.Hash)) == 1
}

// hash hashes what cred authenticates with, and a salt, which becomes part of the
// result: two hashes of one credential differ.
func hash(salt []byte, cred credentials.Credential) string {
	h := sha256.New()
	h.Write(salt)
	for _, part := range []string{cred.Username, cred.Password.Reveal(), cred.IdentityToken.Reveal(), cred.RegistryToken.Reveal()} {
		// A hash of each part keeps ("ab", "c") apart from ("a", "bc").
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	enc := base64.RawStdEncoding
	return enc.EncodeToString(salt) + "$" + enc.EncodeToString(h.Sum(nil))
}
