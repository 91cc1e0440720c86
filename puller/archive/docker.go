package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
	"github.com/pullkit/pullkit/internal/ocilayout"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/reference"
)

// dockerList is the list of images in an archive of docker save. From Docker 25 on, the
// archive also has an index.json, and the paths in dockerList are those of blobs. Before
// Docker 25, configs and layers are files of other names, and the archive does not have
// their digests.
const dockerList = "manifest.json"

// noRepoTag is what old versions of Docker write as the tag of an image without a name.
const noRepoTag = "<none>:<none>"

// A dockerImage is one element of the list. Config and Layers are paths in the archive.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// parseDockerList parses manifest.json. It first counts the images, layers and tags,
// because each one is short in the file and takes much memory.
func parseDockerList(data []byte) ([]dockerImage, error) {
	images, parts := 0, 0
	errMany := bad(content.ErrTooLarge, "%s has more than %d images, or more than %d layers and tags", dockerList, maxImages, maxParts)
	count := func(n *int, most int) error {
		if *n++; *n > most {
			return errMany
		}
		return nil
	}
	err := strictjson.Decode(data, strictjson.Limits{}, func(r *strictjson.Reader) error {
		return r.Array(func(int) error {
			if err := count(&images, maxImages); err != nil {
				return err
			}
			return r.Members(func(key string) error {
				if !strings.EqualFold(key, "RepoTags") && !strings.EqualFold(key, "Layers") {
					return nil
				}
				return r.Array(func(int) error { return count(&parts, maxParts) })
			})
		})
	})
	if err == errMany {
		return nil, err
	}
	var list []dockerImage
	if err != nil {
		return nil, bad(content.ErrBadIndex, "%s: %w: make the archive again", dockerList, err)
	}
	return list, unmarshal(dockerList, data, &list)
}

// dockerImages stores a manifest for each image of manifest.json, and returns the images
// with their names.
func (im *importer) dockerImages(ctx context.Context) ([]image, error) {
	if err := im.notAList(); err != nil {
		return nil, err
	}
	list, err := parseDockerList(im.docs[dockerList])
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, bad(content.ErrBadIndex, "%s lists no images: save the archive again, with the images' names", dockerList)
	}
	return im.addDockerImages(ctx, list, nil, make(map[string]int))
}

// dockerListBesideIndex returns the list in manifest.json, for an archive that also has
// an index.json. It returns nil if the archive does not have a manifest.json, and if
// manifest.json is an object, which is not a list of docker save.
func (im *importer) dockerListBesideIndex() ([]dockerImage, error) {
	if im.docs[dockerList] == nil || im.notAList() != nil {
		return nil, nil
	}
	return parseDockerList(im.docs[dockerList])
}

// addDockerImages appends to images, which index.json lists, the images and the names
// that only manifest.json lists. owners gives, by name, the position in images of the
// image that has the name.
func (im *importer) addDockerImages(ctx context.Context, list []dockerImage, images []image, owners map[string]int) ([]image, error) {
	listed, err := im.reachable(ctx, list, images)
	if err != nil {
		return nil, err
	}
	for _, img := range list {
		i, known := listed[im.digestOf(img.Config)]
		desc := ocispec.Descriptor{}
		if known {
			desc = images[i].desc
		} else if desc, err = im.dockerImage(ctx, img); err != nil {
			return nil, err
		}
		names := slices.DeleteFunc(img.RepoTags, func(name string) bool { return name == noRepoTag })
		if len(names) == 0 && !known {
			names = []string{""}
		}
		for _, name := range names {
			ref, err := im.name(name, desc)
			if err != nil {
				return nil, err
			}
			_, taken := owners[ref.String()]
			if taken && known {
				continue // the image is imported already, and the name is that of index.json
			}
			if !taken {
				owners[ref.String()] = len(images)
			}
			images = append(images, image{ref, desc})
		}
	}
	return uniqueNames(images, owners)
}

// reachable returns, by the digest of stored content, the position of the first image
// that leads to the content. It reads nothing if list is empty.
func (im *importer) reachable(ctx context.Context, list []dockerImage, images []image) (map[digest.Digest]int, error) {
	listed := make(map[digest.Digest]int)
	if len(list) == 0 {
		return listed, nil
	}
	seen := make(map[digest.Digest]bool)
	for i, img := range images {
		err := ocilayout.Walk(ctx, im.store, img.desc, seen, func(desc ocispec.Descriptor, stored bool) {
			if stored {
				listed[desc.Digest] = i
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return listed, nil
}

// notAList returns an error if manifest.json is an object and not a list. In the output
// of skopeo's dir: it is the manifest of an image.
func (im *importer) notAList() error {
	if data := bytes.TrimLeft(im.docs[dockerList], " \t\r\n"); len(data) == 0 || data[0] != '{' {
		return nil
	}
	if _, ok := im.others["version"]; ok {
		return bad(content.ErrBadIndex, `it holds a directory that skopeo wrote with "dir:": unpack it, and make an archive with "skopeo copy dir:DIR oci-archive:FILE:NAME"`)
	}
	return bad(content.ErrBadIndex, "%s is not the list that docker save writes, and may be an image manifest: %s", dockerList, makeArchive)
}

// dockerImage stores one image and returns the descriptor of its manifest. Docker's config
// is a valid OCI config, so it is stored unchanged.
func (im *importer) dockerImage(ctx context.Context, img dockerImage) (ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	config, err := im.find(ctx, img.Config)
	if err != nil {
		return none, err
	}
	config.MediaType = ocispec.MediaTypeImageConfig
	data, err := ocilayout.ReadBlob(ctx, im.store, config)
	if err != nil {
		return none, err
	}
	var c struct { // the needed members of an ocispec.Image
		ocispec.Platform
		RootFS ocispec.RootFS `json:"rootfs"`
	}
	if err := unmarshal(img.Config, data, &c); err != nil {
		return none, err
	}
	if len(c.RootFS.DiffIDs) != len(img.Layers) {
		return none, bad(content.ErrBadManifest, "the config %s lists %d layers, and %s lists %d", quote(img.Config), len(c.RootFS.DiffIDs), dockerList, len(img.Layers))
	}
	layers := make([]ocispec.Descriptor, 0, len(img.Layers))
	for i, name := range img.Layers {
		layer, err := im.find(ctx, name)
		if err != nil {
			return none, err
		}
		if layer.MediaType, err = im.layerType(ctx, layer); err != nil {
			return none, err
		}
		if want := c.RootFS.DiffIDs[i]; layer.MediaType == ocispec.MediaTypeImageLayer && layer.Digest != want {
			return none, bad(content.ErrDigestMismatch, "layer %s has digest %s, and the image's config gives %s", quote(name), layer.Digest, quote(string(want)))
		}
		layers = append(layers, layer)
	}
	return im.manifest(ctx, config, layers, c.Platform)
}

// find returns the descriptor of the file that manifest.json names, and stores the file
// as a blob. It follows links within the archive.
func (im *importer) find(ctx context.Context, name string) (ocispec.Descriptor, error) {
	at := im.follow(name)
	if f, ok := im.others[at]; ok {
		return f.desc, im.adopt(ctx, f)
	}
	if d, ok := ocilayout.BlobDigest(at); ok {
		if size, ok := im.blobSizes[digestPrefix(d)]; ok {
			return ocispec.Descriptor{Digest: d, Size: size}, nil
		}
	}
	return ocispec.Descriptor{}, bad(content.ErrBadIndex, "%s names %s, which is not in it: make the archive again", dockerList, quote(name))
}

// follow returns the path to which name leads by the links of the archive.
func (im *importer) follow(name string) string {
	at := path.Clean(name)
	for range maxLinkSteps {
		to, ok := im.links[at]
		if !ok {
			break
		}
		at = to
	}
	return at
}

// digestOf returns the digest of the file that manifest.json names, or "" if the digest
// is not known.
func (im *importer) digestOf(name string) digest.Digest {
	at := im.follow(name)
	if f, ok := im.others[at]; ok {
		return f.desc.Digest
	}
	if d, ok := ocilayout.BlobDigest(at); ok {
		return d
	}
	return ""
}

// layerType returns the media type of a stored layer. Its first bytes show it.
func (im *importer) layerType(ctx context.Context, desc ocispec.Descriptor) (string, error) {
	r, err := im.store.Open(ctx, desc)
	if errors.Is(err, fs.ErrNotExist) {
		return "", removedError(desc.Digest)
	}
	if err != nil {
		return "", err
	}
	defer r.Close()
	begin := make([]byte, len(zstdMagic))
	n, err := io.ReadFull(r, begin)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	switch begin = begin[:n]; {
	case bytes.HasPrefix(begin, []byte(gzipMagic)):
		return ocispec.MediaTypeImageLayerGzip, nil
	case bytes.Equal(begin, []byte(zstdMagic)):
		return ocispec.MediaTypeImageLayerZstd, nil
	}
	return ocispec.MediaTypeImageLayer, nil
}

// manifest stores a manifest with this config and these layers, and returns its descriptor.
func (im *importer) manifest(ctx context.Context, config ocispec.Descriptor, layers []ocispec.Descriptor, platform ocispec.Platform) (ocispec.Descriptor, error) {
	data, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(data))), Size: int64(len(data))}
	if platform.OS != "" && platform.Architecture != "" {
		desc.Platform = &platform
	}
	return desc, im.blob(ctx, desc, bytes.NewReader(data))
}

// dockerImages returns the elements of manifest.json for the entries. Each image has one
// element with all its tags.
func (x *exporter) dockerImages(ctx context.Context, entries []content.Entry) ([]dockerImage, error) {
	images := []dockerImage{}
	at := make(map[digest.Digest]int) // by digest of the manifest, the position in images
	for _, e := range entries {
		desc, ok, err := x.runnable(ctx, e.Manifest)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		n, ok := at[desc.Digest]
		if !ok {
			img, ok, err := x.dockerImage(ctx, desc)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			n = len(images)
			at[desc.Digest] = n
			images = append(images, img)
		}
		if tag := dockerTag(e.Ref); tag != "" {
			images[n].RepoTags = append(images[n].RepoTags, tag)
		}
	}
	return images, nil
}

// dockerTag returns a name in the form that docker load accepts, or "" for a name with a
// digest.
func dockerTag(ref reference.Reference) string {
	if ref.Digest() != "" {
		return ""
	}
	return ref.String()
}

// runnable returns the manifest that represents an entry in Docker's format, which holds
// one image for each name. For an index it returns the image for this machine's
// architecture, or else the first complete one.
func (x *exporter) runnable(ctx context.Context, desc ocispec.Descriptor) (ocispec.Descriptor, bool, error) {
	manifests, err := x.manifests(ctx, desc, maxLevels, make(map[digest.Digest]bool))
	if err != nil {
		return desc, false, err
	}
	found := false
	for _, m := range manifests {
		ours := m.Platform != nil && m.Platform.Architecture == runtime.GOARCH
		if found && !ours {
			continue
		}
		ok, err := ocilayout.Complete(ctx, x.store, m)
		if err != nil {
			return desc, false, err
		}
		if !ok {
			continue
		}
		if desc, found = m, true; ours {
			break
		}
	}
	return desc, found, nil
}

// maxLevels is how many levels of indexes are followed. A pull follows as many.
const maxLevels = 5

// manifests returns the manifests of an entry in order. For a manifest it returns the
// manifest itself. For an index it returns the manifests that the index lists, directly or
// through indexes within it. It reads each index once.
func (x *exporter) manifests(ctx context.Context, desc ocispec.Descriptor, levels int, seen map[digest.Digest]bool) ([]ocispec.Descriptor, error) {
	switch {
	case mediatype.IsManifest(desc.MediaType):
		return []ocispec.Descriptor{desc}, nil
	case !mediatype.IsIndex(desc.MediaType) || levels == 0 || seen[desc.Digest]:
		return nil, nil
	}
	seen[desc.Digest] = true
	doc, err := ocilayout.Read(ctx, x.store, desc)
	if errors.Is(err, ocilayout.ErrNoDocument) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []ocispec.Descriptor
	for _, child := range doc.Manifests {
		if child.Platform != nil && child.Platform.OS == "unknown" {
			continue // an attestation, not an image
		}
		below, err := x.manifests(ctx, child, levels-1, seen)
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}

// dockerImage returns a manifest as an element of manifest.json. ok is false for an
// artifact, and for an image of which a part is not stored, because docker load refuses a
// whole archive with such an element.
func (x *exporter) dockerImage(ctx context.Context, desc ocispec.Descriptor) (dockerImage, bool, error) {
	none := dockerImage{}
	doc, err := ocilayout.Read(ctx, x.store, desc)
	if errors.Is(err, ocilayout.ErrNoDocument) || errors.Is(err, fs.ErrNotExist) {
		return none, false, nil
	}
	if err != nil {
		return none, false, err
	}
	if doc.Config == nil || !mediatype.IsConfig(doc.Config.MediaType) {
		return none, false, nil
	}
	for _, part := range doc.Parts() {
		if ok, err := x.store.Has(ctx, part); !ok || err != nil {
			return none, false, err
		}
	}
	img := dockerImage{Config: ocilayout.BlobName(doc.Config.Digest), Layers: []string{}}
	for _, layer := range doc.Layers {
		if !mediatype.IsLayer(layer.MediaType) {
			return none, false, nil
		}
		img.Layers = append(img.Layers, ocilayout.BlobName(layer.Digest))
	}
	return img, true, nil
}
