package puller

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"iter"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

// A fakeRuntime stores images by the name as written. Its fields set its answers.
type fakeRuntime struct {
	mu         sync.Mutex
	store      map[string]string // name as written -> ID
	calls      []string
	inspectErr error
	// pull answers with an ID or an error; nil answers with a fixed ID.
	pull func(ctx context.Context, spec Spec) (string, error)
	used []string // the credentials of the successful pulls
}

func (r *fakeRuntime) call(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

// took returns the calls of the Runtime since the last call of took.
func (r *fakeRuntime) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	calls := r.calls
	r.calls = nil
	if calls == nil {
		return []string{}
	}
	return calls
}

func (r *fakeRuntime) Status(_ context.Context, spec Spec) (Image, error) {
	r.call("inspect %s", spec.Written)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inspectErr != nil {
		return Image{}, r.inspectErr
	}
	id, ok := r.store[spec.Written]
	if !ok {
		return Image{}, fmt.Errorf("image %s: %w", spec.Written, fs.ErrNotExist)
	}
	return fakeImage(spec.Ref, id), nil
}

func fakeImage(ref reference.Reference, id string) Image {
	return Image{Ref: ref, ID: id, Digest: digest.Digest(id), Size: 4096}
}

func (r *fakeRuntime) Pull(ctx context.Context, spec Spec) (Image, error) {
	who := credentialID(spec.Credential)
	r.call("pull %s with %s", spec.Written, who)
	id := "sha256:" + strings.Repeat("1", 64)
	if r.pull != nil {
		var err error
		if id, err = r.pull(ctx, spec); err != nil {
			return Image{}, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.store == nil {
		r.store = map[string]string{}
	}
	r.store[spec.Written] = id
	r.used = append(r.used, who)
	return fakeImage(spec.Ref, id), nil
}

// credentialID names a credential in calls.
func credentialID(c credentials.Credential) string {
	if c.Anonymous() {
		return "anonymous"
	}
	return c.Origin.Key
}

// A fakeKeyring yields a list of credentials. It has the optional methods of the keyrings
// in package credentials.
type fakeKeyring struct {
	creds   []credentials.Credential
	problem error // listed as a problem
	lookups *int
}

func (f *fakeKeyring) Lookup(_ context.Context, _ reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		if f.lookups != nil {
			*f.lookups++
		}
		for _, c := range f.creds {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (f *fakeKeyring) Fingerprint(reference.Reference) uint64 {
	var h maphash.Hash
	h.SetSeed(fakeSeed())
	for _, c := range f.creds {
		maphash.WriteComparable(&h, c.Username+"\x00"+c.Password.Reveal())
	}
	return h.Sum64()
}

var fakeSeed = sync.OnceValue(maphash.MakeSeed)

func (f *fakeKeyring) Explain(ref reference.Reference) iter.Seq[credentials.Note] {
	return func(yield func(credentials.Note) bool) {
		if ref != (reference.Reference{}) {
			for _, c := range f.creds {
				if !yield(credentials.Note{Origin: c.Origin, Username: c.Username, Matched: true, Why: "matches"}) {
					return
				}
			}
		}
		if f.problem == nil {
			return
		}
		bad := &credentials.Error{Origin: credentials.Origin{Kind: credentials.KindSecret, Name: "bad"}, Err: f.problem}
		if ref == (reference.Reference{}) || !bad.Warning() { // here a warning does not concern an image
			yield(credentials.Note{Origin: bad.Origin, Why: "left out: " + f.problem.Error(), Err: bad})
		}
	}
}

// A podKeyring returns another keyring for each Pod.
type podKeyring struct {
	of func(credentials.Pod) credentials.Keyring
}

func (p podKeyring) Lookup(ctx context.Context, ref reference.Reference) iter.Seq2[credentials.Credential, error] {
	return p.For(credentials.Pod{}).Lookup(ctx, ref)
}

func (p podKeyring) For(pod credentials.Pod) credentials.Keyring { return p.of(pod) }

// secret returns the credential of a pull secret.
func secret(id, password string) credentials.Credential {
	return credentials.Credential{
		Username: "user", Password: credentials.Conceal(password),
		Origin: credentials.Origin{Kind: credentials.KindSecret, Namespace: "team", Name: "secret-" + id, UID: "uid-" + id, Key: id},
	}
}

// node returns a credential of the node's config.json.
func node(id string) credentials.Credential {
	return credentials.Credential{
		Username: id, Password: credentials.Conceal("password-of-" + id),
		Origin: credentials.Origin{Kind: credentials.KindFile, Name: "/var/lib/kubelet/config.json", Key: id},
	}
}

// textError returns the error that a Runtime has to return for the text of a CRI runtime.
func textError(text string) error {
	for _, reason := range []Reason{ErrRegistryUnavailable, ErrSignatureValidation} {
		if strings.HasPrefix(text, string(reason)) {
			return &typedError{text, reason}
		}
	}
	return errors.New(text)
}

type typedError struct {
	text   string
	reason Reason
}

func (e *typedError) Error() string { return e.text }
func (e *typedError) Unwrap() error { return e.reason }

var errAbsent = fmt.Errorf("absent: %w", fs.ErrNotExist)
