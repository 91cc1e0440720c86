package reference

func isUpper(c byte) bool { return c-'A' < 26 }

// What a byte may be in.
const (
	lower = 1 << iota // a run of lower-case letters and digits
	upper             // upper-case letters
	hex               // lower-case hex digits
	inTag             // a tag
)

// class says what each byte may be in. Looking it up is the fastest test there is.
var class = [256]byte{
	'0': lower | hex | inTag, '1': lower | hex | inTag, '2': lower | hex | inTag, '3': lower | hex | inTag, '4': lower | hex | inTag,
	'5': lower | hex | inTag, '6': lower | hex | inTag, '7': lower | hex | inTag, '8': lower | hex | inTag, '9': lower | hex | inTag,
	'a': lower | hex | inTag, 'b': lower | hex | inTag, 'c': lower | hex | inTag, 'd': lower | hex | inTag, 'e': lower | hex | inTag,
	'f': lower | hex | inTag, 'g': lower | inTag, 'h': lower | inTag, 'i': lower | inTag, 'j': lower | inTag, 'k': lower | inTag,
	'l': lower | inTag, 'm': lower | inTag, 'n': lower | inTag, 'o': lower | inTag, 'p': lower | inTag, 'q': lower | inTag,
	'r': lower | inTag, 's': lower | inTag, 't': lower | inTag, 'u': lower | inTag, 'v': lower | inTag, 'w': lower | inTag,
	'x': lower | inTag, 'y': lower | inTag, 'z': lower | inTag,
	'A': upper | inTag, 'B': upper | inTag, 'C': upper | inTag, 'D': upper | inTag, 'E': upper | inTag, 'F': upper | inTag,
	'G': upper | inTag, 'H': upper | inTag, 'I': upper | inTag, 'J': upper | inTag, 'K': upper | inTag, 'L': upper | inTag,
	'M': upper | inTag, 'N': upper | inTag, 'O': upper | inTag, 'P': upper | inTag, 'Q': upper | inTag, 'R': upper | inTag,
	'S': upper | inTag, 'T': upper | inTag, 'U': upper | inTag, 'V': upper | inTag, 'W': upper | inTag, 'X': upper | inTag,
	'Y': upper | inTag, 'Z': upper | inTag,
	'_': inTag, '.': inTag, '-': inTag,
}
