package unpack

import (
	"fmt"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/mediatype"
)

// The annotations of a layer that this package reads.
const (
	annotationTitle  = ocispec.AnnotationTitle         // OCI; oras writes the name of the file there
	annotationPath   = "org.cncf.model.filepath"       // ModelPack, and Docker's model-runner since its config 0.2
	annotationOldCN  = "org.cnai.model.filepath"       // ModelPack before it was renamed
	annotationUnpack = "io.deis.oras.content.unpack"   // oras: the layer is the tar of a directory
	annotationDigest = "io.deis.oras.content.digest"   // oras: the digest of that tar before it was compressed
	ollamaPrefix     = "application/vnd.ollama.image." // of the media types whose descriptors may have a member "name"
	whiteoutPrefix   = ".wh."                          // of a file in the layer of an image that removes a file of the layers below
)

// defaultNames are the file names of layers that do not have a name, by media type. For
// Docker's media types, the names of shards are those of Docker's model-spec, and the names of
// single files are those under which model-runner passes them to inference engines. Layers of
// Ollama do not have file names.
var defaultNames = map[string]string{
	"application/vnd.docker.ai.gguf.v3":                  "model.gguf",
	"application/vnd.docker.ai.gguf.v3.lora":             "adapter.gguf",
	"application/vnd.docker.ai.gguf.v3.mmproj":           "model.mmproj",
	"application/vnd.docker.ai.mmproj":                   "model.mmproj",
	"application/vnd.docker.ai.safetensors":              "model.safetensors",
	"application/vnd.docker.ai.dduf":                     "model.dduf",
	"application/vnd.docker.ai.chat.template.jinja":      "template.jinja",
	"application/vnd.docker.ai.license":                  "LICENSE",
	"application/vnd.ollama.image.model":                 "model.gguf",
	"application/vnd.ollama.image.adapter":               "adapter.gguf",
	"application/vnd.ollama.image.projector":             "projector.gguf",
	"application/vnd.ollama.image.template":              "template",
	"application/vnd.ollama.image.prompt":                "prompt",
	"application/vnd.ollama.image.system":                "system",
	"application/vnd.ollama.image.params":                "params.json",
	"application/vnd.ollama.image.messages":              "messages.json",
	"application/vnd.ollama.image.license":               "LICENSE",
	"application/vnd.cncf.helm.chart.provenance.v1.prov": "chart.prov",
}

// A place says which file a layer becomes, or that its files are in a tar.
type place struct {
	layer ocispec.Descriptor
	name  string // of the file, as it is written; "" if the layer is a tar
	tar   bool
	image bool // the layer's media type is that of an image, where some names have a meaning
}

// An artifactLayer is the descriptor of a layer in a manifest, with the member "name".
type artifactLayer struct {
	ocispec.Descriptor
	Name string // Ollama's member "name"
}

// isOllama reports whether a layer has a media type of Ollama.
func isOllama(mediaType string) bool {
	return strings.HasPrefix(mediatype.Bare(mediaType), ollamaPrefix)
}

// places returns the place of each layer that has content. name is Config.Name.
func places(layers []artifactLayer, name func(ocispec.Descriptor) string) ([]place, *Error) {
	all := make([]place, 0, len(layers))
	total := make(map[string]int) // of layers without a name, by media type
	for _, l := range layers {
		mediaType := mediatype.Bare(l.MediaType)
		p := place{layer: l.Descriptor, tar: isTar(l.Descriptor)}
		switch {
		case mediaType == ocispec.MediaTypeEmptyJSON:
			continue // the OCI image specification uses it for an artifact without content
		case p.tar:
			p.image = mediatype.IsLayer(mediaType) && l.Annotations[annotationUnpack] == ""
			switch c := compression(mediaType); {
			case c == "zstd":
				return nil, &Error{Layer: l.Digest, Err: errZstd}
			case c != "" && c != "gzip" && c != "gz":
				return nil, &Error{Layer: l.Digest, Err: bad(ErrBadTar, "its media type %s says that it is compressed with %s, which this package does not read: pack the artifact without compression or with gzip", quote(l.MediaType), c)}
			}
		default:
			if p.name = l.ownName(); p.name == "" && name != nil {
				p.name = name(l.Descriptor)
			}
			if p.name == "" {
				total[mediaType]++
			}
		}
		all = append(all, p)
	}
	number := make(map[string]int)
	for i := range all {
		p := &all[i]
		if p.tar {
			continue
		}
		mediaType := mediatype.Bare(p.layer.MediaType)
		if p.name == "" && defaultNames[mediaType] != "" {
			number[mediaType]++
			p.name = numbered(defaultNames[mediaType], number[mediaType], total[mediaType])
		}
		if p.name == "" {
			return nil, &Error{Layer: p.layer.Digest, Err: bad(ErrNoName, "it has neither the annotation %s nor %s, and its media type %s does not have a default name: return a name from Config.Name",
				annotationTitle, annotationPath, quote(p.layer.MediaType))}
		}
		clean, err := cleanName(p.name)
		if err == nil && (clean == "." || strings.HasSuffix(p.name, "/")) {
			err = bad(ErrBadName, "it is the name of a directory")
		}
		if err != nil {
			return nil, &Error{Layer: p.layer.Digest, File: p.name, Err: err}
		}
		p.name = clean
	}
	return all, nil
}

// ownName returns the name in the layer's annotations or, for Ollama, in its member "name". It
// returns "" if the layer does not have a name.
func (l artifactLayer) ownName() string {
	for _, key := range []string{annotationPath, annotationOldCN, annotationTitle} {
		if name := l.Annotations[key]; name != "" {
			return name
		}
	}
	if isOllama(l.MediaType) {
		return l.Name
	}
	return ""
}

// numbered returns the name of the nth of several files of one kind:
// model-00001-of-00002.gguf. A single file has the name without a number.
func numbered(name string, n, total int) string {
	if total == 1 {
		return name
	}
	ext := path.Ext(name)
	return fmt.Sprintf("%s-%05d-of-%05d%s", strings.TrimSuffix(name, ext), n, total, ext)
}

// isTar reports whether a layer is a tar of files. The media type is not enough to know this:
// oras gives the media type of an image's layer to each file for which its user does not name
// a media type. Such a file has a title. A directory that oras packs also has the annotation
// for unpacking.
func isTar(layer ocispec.Descriptor) bool {
	if unpack, ok := layer.Annotations[annotationUnpack]; ok {
		return unpack == "true"
	}
	if mediatype.IsLayer(layer.MediaType) && layer.Annotations[annotationTitle] != "" {
		return false
	}
	bare := mediatype.Bare(layer.MediaType)
	bare = strings.TrimSuffix(bare[:len(bare)-len(compression(bare))], "+")
	bare = strings.TrimSuffix(bare, ".")
	for _, end := range []string{".tar", "+tar", "/tar", "/x-tar", "/x-gtar", "/x-tgz"} {
		if strings.HasSuffix(bare, end) {
			return true
		}
	}
	return false
}

// compressions are the ends of media types that name a compression. Only the first two are
// read.
var compressions = []string{"gzip", "gz", "zstd", "xz", "bzip2", "bz2", "lz4", "lzma", "lzip", "lzop", "brotli", "br", "zlib", "deflate", "compress", "snappy"}

// compression returns the compression at the end of a media type, or "".
func compression(bare string) string {
	for _, c := range compressions {
		if strings.HasSuffix(bare, "+"+c) || strings.HasSuffix(bare, "."+c) {
			return c
		}
	}
	return ""
}

// Limits of a name.
const (
	maxName  = 4096     // bytes
	maxNames = 32 << 20 // bytes of all names of an artifact
	maxDepth = 100      // elements
)

// markName is the name of the file, in the unpacked directory, that says what was
// unpacked.
const markName = ".pullkit"

// cleanName returns the name of a file as it is written: relative to the directory, with
// slashes, without elements that are empty or ".". It returns "." for the directory
// itself. The error wraps ErrBadName. The rules are the same on all systems. A system may
// have more names that it cannot write, and these are refused on this system only.
func cleanName(name string) (string, error) {
	switch {
	case len(name) > maxName:
		return "", bad(ErrBadName, "it has %d bytes, more than %d", len(name), maxName)
	case name == "":
		return "", bad(ErrBadName, "it is empty")
	case !utf8.ValidString(name):
		return "", bad(ErrBadName, "it is not UTF-8")
	case strings.HasPrefix(name, "/"):
		return "", bad(ErrBadName, "it is absolute")
	case strings.ContainsRune(name, '\\'):
		return "", bad(ErrBadName, "it has a backslash, which some systems take for a slash")
	case strings.ContainsFunc(name, unicode.IsControl):
		return "", bad(ErrBadName, "it has a control character")
	}
	depth := 0
	for element := range strings.SplitSeq(name, "/") {
		switch element {
		case "..":
			return "", bad(ErrBadName, `it has the element ".."`)
		case "", ".":
		default:
			depth++
		}
	}
	if depth > maxDepth {
		return "", bad(ErrBadName, "it has %d elements, more than %d", depth, maxDepth)
	}
	clean := path.Clean(name)
	if err := checkKept(clean); err != nil {
		return "", err
	}
	if _, err := filepath.Localize(clean); err != nil || runtime.GOOS == "windows" && endsInDotOrSpace(clean) {
		return "", bad(ErrBadName, "this system cannot write it")
	}
	return clean, nil
}

// endsInDotOrSpace reports whether an element of a clean name ends in a dot or a space. Most
// programs on Windows cannot open such a file, because the system leaves these characters out
// of the names that they pass.
func endsInDotOrSpace(clean string) bool {
	for element := range strings.SplitSeq(clean, "/") {
		if element != "." && strings.TrimRight(element, ". ") != element {
			return true
		}
	}
	return false
}

// checkKept returns an error if a clean name is that of the file .pullkit, or is below it.
func checkKept(clean string) error {
	if first, _, _ := strings.Cut(clean, "/"); strings.EqualFold(first, markName) {
		return bad(ErrBadName, "the name is kept for a file of this package")
	}
	return nil
}
