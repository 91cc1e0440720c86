package pullertest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/verify"
)

// A blob is content with its type.
type blob struct {
	mediaType string
	digest    digest.Digest
	data      []byte
}

// contents are a registry's repositories.
type contents struct {
	mu    sync.RWMutex
	repos map[string]*repository
}

type repository struct {
	blobs     map[digest.Digest]blob
	manifests map[digest.Digest]blob
	tags      map[string]digest.Digest
}

// repo returns a repository, made if need be; c.mu is held for writing.
func (c *contents) repo(name string) *repository {
	if c.repos == nil {
		c.repos = map[string]*repository{}
	}
	if c.repos[name] == nil {
		c.repos[name] = &repository{map[digest.Digest]blob{}, map[digest.Digest]blob{}, map[string]digest.Digest{}}
	}
	return c.repos[name]
}

// PutBlob stores a blob in a repository ("team/app") and describes it. The
// registry keeps data, which must not change any more.
func (r *Registry) PutBlob(repository, mediaType string, data []byte) ocispec.Descriptor {
	b := blob{"application/octet-stream", sha256Of(data), data}
	r.content.mu.Lock()
	defer r.content.mu.Unlock()
	r.content.repo(repository).blobs[b.digest] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: b.digest, Size: int64(len(data))}
}

// PutManifest stores a manifest or index and describes it. The name is
// "team/app:v1", or "team/app" for one that is found by digest alone; a tag
// that exists is moved. The document is not looked at. The registry keeps data,
// which must not change any more.
func (r *Registry) PutManifest(name, mediaType string, data []byte) ocispec.Descriptor {
	repository, tag := splitName(name)
	b := blob{mediaType, sha256Of(data), data}
	r.content.mu.Lock()
	defer r.content.mu.Unlock()
	repo := r.content.repo(repository)
	repo.manifests[b.digest] = b
	if tag != "" {
		repo.tags[tag] = b.digest
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: b.digest, Size: int64(len(data))}
}

// Remove makes the registry forget a tag ("team/app:v1"), or a blob or manifest
// ("team/app@sha256:..."). What is not there is no error.
func (r *Registry) Remove(name string) {
	r.content.mu.Lock()
	defer r.content.mu.Unlock()
	if repository, dgst, ok := strings.Cut(name, "@"); ok {
		repo := r.content.repo(repository)
		delete(repo.blobs, digest.Digest(dgst))
		delete(repo.manifests, digest.Digest(dgst))
		return
	}
	repository, tag := splitName(name)
	delete(r.content.repo(repository).tags, tag)
}

func splitName(name string) (repository, tag string) {
	repository, tag, _ = strings.Cut(name, ":")
	return repository, tag
}

func (c *contents) manifest(repository, ref string) (blob, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	repo := c.repos[repository]
	if repo == nil {
		return blob{}, false
	}
	dgst, ok := repo.tags[ref]
	if !ok {
		dgst = digest.Digest(ref)
	}
	return find(repo.manifests, dgst)
}

func (c *contents) blob(repository, ref string) (blob, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	repo := c.repos[repository]
	if repo == nil {
		return blob{}, false
	}
	return find(repo.blobs, digest.Digest(ref))
}

// find looks content up by its digest, also by one that is not sha256.
func find(in map[digest.Digest]blob, dgst digest.Digest) (blob, bool) {
	if b, ok := in[dgst]; ok {
		return b, true
	}
	if strings.HasPrefix(string(dgst), "sha256:") {
		return blob{}, false
	}
	for _, b := range in {
		if verify.Bytes(dgst, b.data) {
			b.digest = dgst
			return b, true
		}
	}
	return blob{}, false
}

func (c *contents) tags(repository string) ([]string, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	repo := c.repos[repository]
	if repo == nil {
		return nil, false
	}
	tags := make([]string, 0, len(repo.tags))
	for tag := range repo.tags {
		tags = append(tags, tag)
	}
	slices.Sort(tags)
	return tags, true
}

func sha256Of(data []byte) digest.Digest {
	sum := sha256.Sum256(data)
	return digest.Digest(fmt.Sprint("sha256:", hex.EncodeToString(sum[:])))
}
