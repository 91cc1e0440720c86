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

	"github.com/opencontainers/go-digest"

	"github.com/pullkit/pullkit/credentials"
)

// A Store keeps records and notes. [Dir] keeps them in a directory.
//
// An error of a Store grants no access: the Puller then asks the registry. The methods
// may be called concurrently.
type Store interface {
	// Intend writes a note before a pull starts, so that an image that a crash leaves in the
	// store does not look preloaded. image is the image's name, a space and the platform. For
	// a runtime handler, a space and the handler follow. The note is durable when Intend
	// returns. done removes the note. Calls for one image may overlap; each call has its own
	// note and its own done.
	Intend(ctx context.Context, image string) (done func() error, err error)
	// Intents yields the image of each note that was not removed, including the notes of
	// other processes.
	Intents(ctx context.Context) iter.Seq2[string, error]
	// Record returns the record of the image with the ID id, as in puller.Image. For a
	// runtime handler, a space and the handler follow the image's ID. The error wraps
	// fs.ErrNotExist if the Store has no such record.
	Record(ctx context.Context, id string) (Record, error)
	// Grant adds access to the record of id under name, an image's name without tag and
	// digest. It makes the record if the Store has none. The record is durable when Grant
	// returns. If the record exists but cannot be read, Grant either replaces it by a record
	// that is Incomplete, or fails.
	Grant(ctx context.Context, id, name string, access Access) error
	// Sweep removes a record if it was last written before the time before, and stored
	// reports false for its ID. It also removes the notes of pulls that started so long
	// before that time that they cannot run any more. The method Sweep of puller.Puller calls
	// it after it has made records of the images that these pulls have left in the store.
	Sweep(ctx context.Context, before time.Time, stored func(id string) bool) error
}

// A Lister is a Store that can list its records, as a Dir can. It is optional. Package
// serve uses it to find out whether a blob of one image is public in another image.
type Lister interface {
	Store
	// List yields all records. For a record that cannot be read it yields an error, and goes
	// on. When ctx ends, it yields an error and stops.
	List(ctx context.Context) iter.Seq2[Record, error]
}

// A Record says which Pods may use one image, as earlier pulls have shown.
type Record struct {
	ID      string            `json:"id"`      // as in puller.Image
	Updated time.Time         `json:"updated"` // when access was last added
	Names   map[string]Access `json:"names"`   // by the name that was pulled, without tag and digest
	// Incomplete says that names may be missing, because an earlier record could not be read.
	// Then the image counts as preloaded under no name.
	Incomplete bool `json:"incomplete,omitempty"`
	// Admissions are the admissions of the image, oldest first; see [AdmissionStore]. They
	// give no Pod access. A record with Admissions and without Names does not say that the
	// image was pulled.
	Admissions []Admission `json:"admissions,omitempty"`
}

// An Admission says that the check of a Puller (puller.Config.Admission) has admitted an
// image. It counts only for a Puller whose check has the same fingerprint.
type Admission struct {
	Name      string        `json:"name"`                // the name under which the image was admitted, without tag and digest
	Digest    digest.Digest `json:"digest"`              // the digest of what the name pointed to, often an index
	Policy    string        `json:"policy"`              // the fingerprint of the check
	Namespace string        `json:"namespace,omitempty"` // of the Pod
	By        string        `json:"by,omitempty"`        // which program, key or rule admitted the image, human-readable
	Time      time.Time     `json:"time"`
}

// Equal reports whether a and b are answers to the same question: whether all fields
// except By and Time are equal.
func (a Admission) Equal(b Admission) bool {
	return a.Name == b.Name && a.Digest == b.Digest && a.Policy == b.Policy && a.Namespace == b.Namespace
}

// An AdmissionStore is a Store that keeps admissions. It is optional: with another Store,
// a Puller asks its check again after a restart.
type AdmissionStore interface {
	// Admit adds an admission to the record of id. It replaces an admission that is Equal,
	// and makes the record if the Store has none. The record keeps the latest 100 admissions.
	// It is durable when Admit returns. If the record exists but cannot be read, Admit fails.
	Admit(ctx context.Context, id string, admission Admission) error
}

// maxAdmissions is how many admissions a record keeps.
const maxAdmissions = 100

// Access says which Pods may use an image under one name. The zero Access allows no Pod.
type Access struct {
	// Everybody says that every Pod may use the image, because it was pulled without a
	// credential or with a credential of the node.
	Everybody       bool                         `json:"everybody,omitempty"`
	Secrets         []SecretID                   `json:"secrets,omitempty"`
	ServiceAccounts []credentials.ServiceAccount `json:"serviceAccounts,omitempty"`
	// Public has the digests of those documents and blobs of the image whose bytes came to
	// this node without a credential. It has only digests from pulls in which the registry
	// itself said, without a credential, what the name points to. The answer of a mirror does
	// not count. A node may give these bytes to other nodes.
	//
	// Public is empty if no such pull is known, as in records of earlier versions. It can be
	// empty although Everybody is true, because a credential of the node may have opened the
	// image.
	Public []digest.Digest `json:"public,omitempty"`
}

// A SecretID identifies a pull secret and its content.
type SecretID struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
	// Mirror is the image's name at the mirror that accepted the credential; "" means that
	// the registry itself has accepted it. A credential that opens the image at one of these
	// hosts may not open it at another host.
	Mirror string `json:"mirror,omitempty"`
	// Hash is a salted hash of the credential; see Matches. A copy of the Secret under
	// another name also matches the hash, so a Pod with that copy may use the image. ""
	// matches no credential. A SecretID from a [Kubelet] has the kubelet's hash, which has no
	// salt.
	Hash string `json:"hash,omitempty"`
}

// maxAccess is how many secrets, and how many service accounts, one Access has at most, as
// in the kubelet. For a Pod whose secret is not kept because of this limit, the Puller
// asks the registry each time.
const maxAccess = 100

// maxPublic is how many digests the Public of one Access has at most. They take up 300 KB
// in a record. An image seldom has more than 100 layers.
const maxPublic = 4096

// Full reports whether a has the largest number of secrets that an Access keeps. Merge adds
// no secret to a full Access.
func (a Access) Full() bool { return len(a.Secrets) >= maxAccess }

// Merge returns an Access that allows what a or b allows. A Secret that is in both gets
// the hash of b. A digest that is Public in a or b is Public in the result, because its
// bytes were public.
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
	a.Public = mergePublic(a.Public, b.Public)
	return a
}

// mergePublic returns the digests of a, and then the digests of b that are not in a, at
// most maxPublic in total.
func mergePublic(a, b []digest.Digest) []digest.Digest {
	a = slices.Clone(a)
	have := make(map[digest.Digest]bool, len(a)+len(b))
	for _, d := range a {
		have[d] = true
	}
	for _, d := range b {
		if len(a) < maxPublic && !have[d] {
			have[d] = true
			a = append(a, d)
		}
	}
	return a
}

// NewSecretID returns the SecretID of the Secret that cred is from, with a hash of cred.
func NewSecretID(cred credentials.Credential) SecretID {
	s := SecretID{Namespace: cred.Origin.Namespace, Name: cred.Origin.Name, UID: cred.Origin.UID}
	if !cred.Anonymous() {
		var salt [16]byte
		rand.Read(salt[:])
		s.Hash = hash(salt[:], cred)
	}
	return s
}

// SameObject reports whether s and t are the same Secret object, for the registry or for
// one mirror, even with different content. A Secret without a UID is not the same as any
// other Secret.
func (s SecretID) SameObject(t SecretID) bool {
	return s.UID != "" && s.UID == t.UID && s.Namespace == t.Namespace && s.Name == t.Name && s.Mirror == t.Mirror
}

// Matches reports whether s.Hash is a hash of cred. The anonymous credential matches no
// hash.
func (s SecretID) Matches(cred credentials.Credential) bool {
	if hash, ok := strings.CutPrefix(s.Hash, kubeletHash); ok {
		return matchesKubelet(hash, cred)
	}
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

// hash returns a hash of the salt and of the parts of cred that authenticate. The result
// includes the salt, so hashes of one credential with different salts differ.
func hash(salt []byte, cred credentials.Credential) string {
	h := sha256.New()
	h.Write(salt)
	for _, part := range []string{cred.Username, cred.Password.Reveal(), cred.IdentityToken.Reveal(), cred.RegistryToken.Reveal()} {
		// Each part is hashed by itself, so that ("ab", "c") and ("a", "bc") give different
		// hashes.
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	enc := base64.RawStdEncoding
	return enc.EncodeToString(salt) + "$" + enc.EncodeToString(h.Sum(nil))
}
