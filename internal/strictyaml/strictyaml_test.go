package strictyaml

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestDocumentsAreSplitAtMarkers(t *testing.T) {
	for text, want := range map[string][]string{
		"a: 1\n":                    {"a: 1\n"},
		"a: 1\n---\nb: 2\n":         {"a: 1\n", "\nb: 2\n"},
		"--- {a: 1}\n...\nb: 2":     {"", "    {a: 1}\n", "\nb: 2"},
		"a: |\n  ---\n----\n---b\n": {"a: |\n  ---\n----\n---b\n"},
	} {
		assert.Equal(t, want, Split(text), "%q", text)
	}
	for doc, want := range map[string]bool{"": true, "# x\n \n%YAML 1.2\n": true, "a": false, " %a": false} {
		assert.Equal(t, want, Blank(doc), "%q", doc)
	}
}

// TestErrorsDoNotQuoteTheDocument holds that an error has the line of a fault, and
// nothing of the document's text.
func TestErrorsDoNotQuoteTheDocument(t *testing.T) {
	for doc, want := range map[string]string{
		"a: 1\na: S3cret\n":   "holds a field twice: line 12",
		"a: 1\n\tS3cret: x\n": "is not YAML: line 12",
		"S3cret: [\n":         "is not YAML: line 11",
		"a: *S3cret\n":        "is not YAML",
	} {
		_, err := ToJSON([]byte(doc), 10)
		assert.EqualError(t, err, want, "%q", doc)
	}
	_, err := ToJSON([]byte("a: {b: 1, b: 2}"), 0)
	assert.ErrorIs(t, err, ErrTwice)
	out, err := ToJSON([]byte("a: [1, yes]\n"), 0)
	assert.NoError(t, err)
	assert.JSONEq(t, `{"a":[1,true]}`, string(out))
}
