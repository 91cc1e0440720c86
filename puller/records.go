package puller

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

// Records remember whose credentials brought an image onto the node, so that
// nobody uses what another one's secret has pulled without proof of their own.
// [FileRecords] keeps them in a directory.
//
// Where Records fail, the registry is asked: an error never lets anybody in. The
// methods may be called concurrently.
type Records interface {
	// Intend notes that a pull is about to begin, so that what a crash leaves in the
	// store does not look like an image that was always there. image is its name, a
	// space and the platform. The note is durable when Intend returns; done takes it
	// back. Calls for one image may overlap, each with a done of its own.
	Intend(ctx context.Context, image string) (done func() error, err error)
	// Intents yields what was noted and not taken back, by any process at any time.
	Intents(ctx context.Context) iter.Seq2[string, error]
	// Record returns what is known of the image with the given ID. The error wraps
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
	// Puller.Sweep calls it, after it has made records of what those pulls left.
	Sweep(ctx context.Context, before time.Time, stored func(id string) bool) error
}

// A Record says who has shown that they may use one image.
type Record struct {
	ID      string            `json:"id"`      // as in Image.ID
	Updated time.Time         `json:"updated"` // when access was last added
	Names   map[string]Access `json:"names"`   // by the name it was pulled under, without tag and digest
	// Incomplete says that names may be missing, because an earlier record could not
	// be read: then no name of the image counts as one that was always there.
	Incomplete bool `json:"incomplete,omitempty"`
}

// Access is who may use an image under one name. The zero Access lets nobody in.
type Access struct {
	// Everybody: it was pulled without a credential, or with one of the node's.
	Everybody       bool                         `json:"everybody,omitempty"`
	Secrets         []SecretID                   `json:"secrets,omitempty"`
	ServiceAccounts []credentials.ServiceAccount `json:"serviceAccounts,omitempty"`
}

// A SecretID names a pull secret, and what was in it.
type SecretID struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
	// Hash is a salted hash of the credential. It opens the image for a copy of the
	// Secret too.
	Hash string `json:"hash,omitempty"`
}

// maxAccess bounds the secrets, and the service accounts, of one Access; it is
// the kubelet's. Who comes later asks the registry each time.
const maxAccess = 100

// Merge returns a with what b adds. A Secret that a knows already gets b's hash.
func (a Access) Merge(b Access) Access {
	a.Everybody = a.Everybody || b.Everybody
	a.Secrets = slices.Clone(a.Secrets)
	for _, s := range b.Secrets {
		if i := slices.IndexFunc(a.Secrets, s.sameObject); i >= 0 {
			a.Secrets[i].Hash = s.Hash
		} else if len(a.Secrets) < maxAccess && !slices.Contains(a.Secrets, s) {
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

// sameObject reports whether s and t are one Secret, whatever it holds now.
func (s SecretID) sameObject(t SecretID) bool {
	return s.UID != "" && s.UID == t.UID && s.Namespace == t.Namespace && s.Name == t.Name
}

// hashCredential hashes what c authenticates with, and a salt, which becomes part
// of the result: two hashes of one credential differ. The anonymous credential
// has no hash.
func hashCredential(c credentials.Credential) string {
	if c.Anonymous() {
		return ""
	}
	var salt [16]byte
	rand.Read(salt[:])
	return hashWith(salt[:], c)
}

func hashWith(salt []byte, c credentials.Credential) string {
	h := sha256.New()
	h.Write(salt)
	for _, part := range []string{c.Username, c.Password.Reveal(), c.IdentityToken.Reveal(), c.RegistryToken.Reveal()} {
		// A hash of each part keeps ("ab", "c") apart from ("a", "bc").
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	enc := base64.RawStdEncoding
	return enc.EncodeToString(salt) + "$" + enc.EncodeToString(h.Sum(nil))
}

// holds reports whether hash was made of c.
func holds(hash string, c credentials.Credential) bool {
	salt, _, ok := strings.Cut(hash, "$")
	if !ok || c.Anonymous() {
		return false
	}
	raw, err := base64.RawStdEncoding.DecodeString(salt)
	if err != nil {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(hashWith(raw, c)), []byte(hash)) == 1
}
