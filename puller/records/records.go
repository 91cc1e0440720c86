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
	// Intend notes that a pull is about to start, so that an image that a crash leaves in
	// the store does not look preloaded. image is the image's name, a space and the
	// platform. The note is durable when Intend returns; done removes the note. Calls for
	// one image may overlap; each returns its own done.
	Intend(ctx context.Context, image string) (done func() error, err error)
	// Intents yields the images of all notes that were not removed, including those of
	// other processes.
	Intents(ctx context.Context) iter.Seq2[string, error]
	// Record returns the record of the image with the given ID, which is the ID of
	// puller.Image. The error wraps fs.ErrNotExist if there is no record.
	Record(ctx context.Context, id string) (Record, error)
	// Grant adds access to the record of id under name, which is an image's name without
	// tag and digest, and makes the record if there is none. The record is durable when
	// Grant returns. If the record exists but cannot be read, Grant either replaces it
	// with one that is Incomplete, or fails.
	Grant(ctx context.Context, id, name string, access Access) error
	// Sweep removes records that were last written before the given time, if stored reports
	// false for their ID. It also removes the notes of pulls that started so long before
	// that time that they cannot be running any more. puller.Puller.Sweep calls it after it
	// has made records for the images that those pulls have left in the store.
	Sweep(ctx context.Context, before time.Time, stored func(id string) bool) error
}

// A Lister is a Store that can list its records, as Dir can. It is optional. Package serve
// uses it to find out that a blob of one image was public in another one.
type Lister interface {
	Store
	// List yields all records. It yields an error for a record that cannot be read, and
	// goes on, and an error when ctx has ended.
	List(ctx context.Context) iter.Seq2[Record, error]
}

// A Record says which Pods may use one image, as earlier pulls have shown.
type Record struct {
	ID      string            `json:"id"`      // as in puller.Image
	Updated time.Time         `json:"updated"` // when access was last added
	Names   map[string]Access `json:"names"`   // the key is the name that was pulled, without tag and digest
	// Incomplete says that names may be missing, because an earlier record could not be
	// read. Then the image does not count as preloaded under any name.
	Incomplete bool `json:"incomplete,omitempty"`
	// Admissions are those of an [AdmissionStore], oldest first. They give no Pod access. A
	// record that has no Names is not one of a pull.
	Admissions []Admission `json:"admissions,omitempty"`
}

// An Admission says that the puller.Config.Admission of a Puller has admitted an image.
// Only a Puller whose check has the same fingerprint goes by it.
type Admission struct {
	Name      string        `json:"name"`                // under which the image was admitted, without tag and digest
	Digest    digest.Digest `json:"digest"`              // of what the name pointed to, often an index
	Policy    string        `json:"policy"`              // fingerprint of the check
	Namespace string        `json:"namespace,omitempty"` // of the Pod
	By        string        `json:"by,omitempty"`        // who admitted it, human-readable
	Time      time.Time     `json:"time"`
}

// Equal reports whether a and b are answers to the same question: they are equal except
// for By and Time.
func (a Admission) Equal(b Admission) bool {
	return a.Name == b.Name && a.Digest == b.Digest && a.Policy == b.Policy && a.Namespace == b.Namespace
}

// An AdmissionStore is a Store that keeps admissions. It is optional: a Puller with
// another Store asks its check again after a restart.
type AdmissionStore interface {
	// Admit adds an admission to the record of id, in the place of an equal one, and makes
	// the record if there is none. The record keeps the latest 100. It is durable when Admit
	// returns. If the record exists but cannot be read, Admit fails.
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
	// Public has the digests of the image's documents and blobs whose bytes came to this
	// node without a credential, by pulls in which the registry of the name itself, and not
	// only a mirror, said without a credential what the name points to. A node may give
	// these bytes to other nodes. It is empty if no such pull is known, as in records of
	// former versions. Everybody does not imply it, because the node's own credential may
	// have opened the image.
	Public []digest.Digest `json:"public,omitempty"`
}

// A SecretID identifies a pull secret and its content.
type SecretID struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	UID       string `json:"uid,omitempty"`
	// Mirror is the image's name at the mirror that accepted the credential; "" means that
	// the registry itself has accepted it. A credential that opens the image at one of them
	// need not open it at another one.
	Mirror string `json:"mirror,omitempty"`
	// Hash is a salted hash of the credential; see Matches. A copy of the Secret under
	// another name matches the hash, too, so a Pod with that copy may use the image. ""
	// matches no credential. A SecretID from a [Kubelet] has the kubelet's hash, without
	// salt.
	Hash string `json:"hash,omitempty"`
}

// maxAccess is the largest number of secrets, and of service accounts, in one Access, as in
// the kubelet. If a Pod's secret is not kept because of this limit, the Puller asks the
// registry each time.
const maxAccess = 100

// maxPublic is the largest number of digests in the Public of one Access, which is 300 KB
// in a record. An image has seldom more than 100 layers.
const maxPublic = 4096

// Full reports whether a has the largest number of secrets that an Access keeps. Merge adds
// no secret to a full Access.
func (a Access) Full() bool { return len(a.Secrets) >= maxAccess }

// Merge returns an Access that allows what a or b allows. A Secret that is in both gets
// the hash of b. What is Public stays so, because its bytes were public.
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

// mergePublic returns the digests of a and those of b that a does not have, at most
// maxPublic in all.
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

// SameObject reports whether s and t are the same Secret object, for the registry or for one
// mirror, even with different content. A Secret without a UID is not the same as any other.
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
