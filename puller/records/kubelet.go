package records

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/internal/redact"
	"github.com/pullkit/pullkit/internal/regular"
	"github.com/pullkit/pullkit/internal/strictjson"
)

// ErrReadOnly is the error of those methods of a Kubelet that would have to write.
var ErrReadOnly = errors.New("the records of the kubelet are read-only")

// A Reader is a Store whose records another program writes, for example the kubelet. A
// Puller only reads it. With a Reader the Puller explains decisions and uses present
// images, but a pull fails with the error of Intend.
//
// The Puller uses the records of a Reader as the kubelet uses its own records. The names
// in them are as written in Pods, without tag and digest. If an image has a record, it is
// preloaded under none of its names.
type Reader interface {
	Store
	// Intended reports whether the records have a note of a pull of the image. image is the
	// name as written in a Pod.
	Intended(ctx context.Context, image string) (bool, error)
}

// A Kubelet is a [Reader] of the records of a kubelet. Kubelets write them since
// Kubernetes 1.33 if the feature gate KubeletEnsureSecretPulledImages is on, which is the
// default since 1.35. In the kubelet's directory the records are in
//
//	image_manager/pulling/sha256-<hex sha256 of the image's name>         an ImagePullIntent
//	image_manager/pulled/sha256-<hex sha256 of the image's ID in CRI>     an ImagePulledRecord
//
// Both are JSON of the API kubelet.config.k8s.io, v1alpha1 or v1beta1. They are read as
// strictly as the kubelet reads them: a file with a field that these versions do not have
// is an error for its image. A file may have at most 8 MiB. As with a [Dir], a call
// returns soon after its context has ended, and after 30 seconds at the latest.
//
// A Kubelet returns the kubelet's hashes of credentials in SecretID.Hash. Do not print
// them: they have no salt, so a reader of a hash can try passwords until one matches.
//
// Only root can read the directory. [OpenKubelet] makes a Kubelet; the zero Kubelet cannot
// be used. Its methods may be called concurrently, and while the kubelet runs.
type Kubelet struct {
	dir *Dir // image_manager
}

// The names of the kubelet's files.
const (
	kubeletDir     = "image_manager"
	pullingDir     = "pulling"
	pulledDir      = "pulled"
	kubeletPrefix  = "sha256-"
	kubeletTemp    = ".tmp"
	kubeletAPI     = "kubelet.config.k8s.io/"
	kubeletHash    = "kubelet:" // before the kubelet's hash in SecretID.Hash
	kindPullIntent = "ImagePullIntent"
	kindPulled     = "ImagePulledRecord"
)

// OpenKubelet opens the records of the kubelet whose directory (--root-dir) is dir, such
// as /var/lib/kubelet. The error wraps fs.ErrNotExist if dir has no records.
func OpenKubelet(dir string) (*Kubelet, error) {
	root, err := os.OpenRoot(filepath.Join(dir, kubeletDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("records: %q is not the directory of a kubelet that keeps records of its pulls (since Kubernetes 1.35, or with the feature gate KubeletEnsureSecretPulledImages): %w", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	return &Kubelet{&Dir{root: root, limit: maxFile, files: make(chan struct{}, maxFiles)}}, nil
}

// Close releases the directory.
func (k *Kubelet) Close() error { return k.dir.Close() }

// Record implements Store. id is the image's ID as the CRI runtime returns it.
func (k *Kubelet) Record(ctx context.Context, id string) (Record, error) {
	return work(ctx, k.dir, "", func() (Record, error) {
		name := kubeletFile(pulledDir, id)
		rec, err := k.record(name)
		if err == nil && rec.ID != id { // as in the kubelet, it is a record of another image
			return Record{}, fmt.Errorf("records: %s is the record of %q, not of %q: %w", name, redact.Cut(rec.ID, maxID), redact.Cut(id, maxID), fs.ErrNotExist)
		}
		return rec, err
	})
}

// List implements Lister. It yields the records of all images, and an error for each file
// that cannot be read. With it a program finds the IDs of the images that were pulled
// under a name.
func (k *Kubelet) List(ctx context.Context) iter.Seq2[Record, error] {
	return eachFile(ctx, k, pulledDir, k.record)
}

// Intended implements Reader.
func (k *Kubelet) Intended(ctx context.Context, image string) (bool, error) {
	return work(ctx, k.dir, "", func() (bool, error) {
		have, err := k.intent(kubeletFile(pullingDir, image))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return have == image, err
	})
}

// Intents implements Store. It yields names as they are written in Pods, without a platform.
func (k *Kubelet) Intents(ctx context.Context) iter.Seq2[string, error] {
	return eachFile(ctx, k, pullingDir, k.intent)
}

// Intend implements Store. It returns ErrReadOnly.
func (k *Kubelet) Intend(context.Context, string) (func() error, error) { return nil, ErrReadOnly }

// Grant implements Store. It returns ErrReadOnly.
func (k *Kubelet) Grant(context.Context, string, string, Access) error { return ErrReadOnly }

// Sweep implements Store. It returns ErrReadOnly: the kubelet sweeps its records itself.
func (k *Kubelet) Sweep(context.Context, time.Time, func(id string) bool) error { return ErrReadOnly }

// eachFile yields the results of read for each of the kubelet's files in a directory.
func eachFile[T any](ctx context.Context, k *Kubelet, dir string, read func(name string) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		names, err := work(ctx, k.dir, "", func() ([]string, error) {
			return k.dir.entries(dir, func(name string) bool {
				return strings.HasPrefix(name, kubeletPrefix) && !strings.HasSuffix(name, kubeletTemp)
			})
		})
		if errors.Is(err, fs.ErrNotExist) {
			return // the kubelet makes the directory with its first record
		}
		if err != nil {
			yield(none, err)
			return
		}
		for _, name := range names {
			got, err := work(ctx, k.dir, "", func() (T, error) { return read(name) })
			switch {
			case ctx.Err() != nil:
				yield(none, context.Cause(ctx))
				return
			case errors.Is(err, fs.ErrNotExist): // removed since it was listed
			case !yield(got, err):
				return
			}
		}
	}
}

func kubeletFile(dir, of string) string { return path.Join(dir, kubeletPrefix+hashName(of)) }

func (k *Kubelet) record(name string) (Record, error) {
	data, err := k.read(name)
	if err != nil {
		return Record{}, err
	}
	rec, err := parseKubeletRecord(data)
	if err != nil {
		return Record{}, malformedf("%s: %w", name, err)
	}
	return rec, nil
}

func (k *Kubelet) intent(name string) (string, error) {
	data, err := k.read(name)
	if err != nil {
		return "", err
	}
	image, err := parseKubeletIntent(data)
	if err != nil {
		return "", malformedf("%s: %w", name, err)
	}
	return image, nil
}

func (k *Kubelet) read(name string) ([]byte, error) {
	data, _, err := regular.ReadIn(k.dir.root, name, k.dir.limit)
	switch {
	case errors.Is(err, regular.ErrNotRegular), errors.Is(err, regular.ErrTooLarge):
		return nil, malformedf("%s %w", name, err)
	case err != nil:
		return nil, fmt.Errorf("records: %w", err)
	}
	return data, nil
}

// parseKubeletIntent reads an ImagePullIntent and returns the image.
func parseKubeletIntent(data []byte) (image string, err error) {
	err = parseKubelet(data, kindPullIntent, func(r *strictjson.Reader, key string) (known bool, err error) {
		if key != "image" {
			return false, nil
		}
		image, err = r.String()
		return true, err
	})
	if err != nil {
		return "", err
	}
	return image, nil
}

// parseKubeletRecord reads an ImagePulledRecord.
func parseKubeletRecord(data []byte) (Record, error) {
	rec := Record{Names: map[string]Access{}}
	err := parseKubelet(data, kindPulled, func(r *strictjson.Reader, key string) (known bool, err error) {
		switch key {
		case "imageRef":
			rec.ID, err = r.String()
		case "lastUpdatedTime":
			rec.Updated, err = readTime(r)
		case "credentialMapping":
			err = r.Members(func(name string) error {
				if _, twice := rec.Names[name]; twice {
					return r.Fail("it has a name twice")
				}
				rec.Names[name], err = readAccess(r)
				return err
			})
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return Record{}, err
	}
	return rec, nil
}

// parseKubelet reads an object of the kubelet's configuration API. It calls read for each
// field except apiVersion and kind.
func parseKubelet(data []byte, wantKind string, read func(r *strictjson.Reader, key string) (known bool, err error)) error {
	var version, kind string
	err := strictjson.Decode(data, strictjson.Limits{}, func(r *strictjson.Reader) error {
		return object(r, func(key string) (known bool, err error) {
			switch key {
			case "apiVersion":
				version, err = r.String()
			case "kind":
				kind, err = r.String()
			default:
				return read(r, key)
			}
			return true, err
		})
	})
	switch {
	case err != nil:
		return err
	case version != kubeletAPI+"v1alpha1" && version != kubeletAPI+"v1beta1":
		return fmt.Errorf("its apiVersion %s is neither v1alpha1 nor v1beta1 of %s", redact.Quote(version, 100), strings.TrimSuffix(kubeletAPI, "/"))
	case kind != wantKind:
		return fmt.Errorf("its kind is %s, not %s", redact.Quote(kind, 100), wantKind)
	}
	return nil
}

// object reads a JSON object. As in the kubelet, a field that is not known, or that the
// object has twice, is an error.
func object(r *strictjson.Reader, read func(key string) (known bool, err error)) error {
	seen := map[string]bool{}
	return r.Members(func(key string) error {
		if seen[key] {
			return r.Fail("the object has a field twice")
		}
		seen[key] = true
		known, err := read(key)
		if err == nil && !known {
			return r.Fail("the object has a field that the kubelet's API does not have")
		}
		return err
	})
}

// readAccess reads ImagePullCredentials.
func readAccess(r *strictjson.Reader) (a Access, err error) {
	err = object(r, func(key string) (known bool, err error) {
		switch key {
		case "nodePodsAccessible":
			a.Everybody, err = r.Bool()
		case "kubernetesSecrets":
			err = r.Array(func(int) error {
				var s SecretID
				hash, err := readIdentity(r, &s.Namespace, &s.Name, &s.UID, true)
				if hash != "" {
					s.Hash = kubeletHash + hash
				}
				a.Secrets = append(a.Secrets, s)
				return err
			})
		case "kubernetesServiceAccounts":
			err = r.Array(func(int) error {
				var s credentials.ServiceAccount
				_, err := readIdentity(r, &s.Namespace, &s.Name, &s.UID, false)
				a.ServiceAccounts = append(a.ServiceAccounts, s)
				return err
			})
		default:
			return false, nil
		}
		return true, err
	})
	return a, err
}

// readIdentity reads an ImagePullSecret, which has a hash, or an ImagePullServiceAccount.
func readIdentity(r *strictjson.Reader, namespace, name, uid *string, secret bool) (hash string, err error) {
	err = object(r, func(key string) (known bool, err error) {
		switch {
		case key == "namespace":
			*namespace, err = r.String()
		case key == "name":
			*name, err = r.String()
		case key == "uid":
			*uid, err = r.String()
		case key == "credentialHash" && secret:
			hash, err = r.String()
		default:
			return false, nil
		}
		return true, err
	})
	return hash, err
}

// readTime reads a time of the Kubernetes API. For null it returns the zero time.
func readTime(r *strictjson.Reader) (time.Time, error) {
	if r.Null() {
		return time.Time{}, nil
	}
	text, err := r.String()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, r.Fail("it is not a time as in RFC 3339")
	}
	return t, nil
}

// matchesKubelet reports whether hash is the kubelet's hash of cred. The kubelet hashes
// the JSON of user name, password and e-mail address, without a salt.
func matchesKubelet(hash string, cred credentials.Credential) bool {
	data, err := json.Marshal(struct {
		Username string `json:"username,omitempty"`
		Password string `json:"password,omitempty"`
		Email    string `json:"email,omitempty"`
	}{cred.Username, cred.Password.Reveal(), cred.Email})
	sum := sha256.Sum256(data)
	return err == nil && hash == hex.EncodeToString(sum[:])
}
