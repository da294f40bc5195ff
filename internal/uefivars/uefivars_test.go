package uefivars

import (
	"bytes"
	"compress/zlib"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"hash/adler32"
	"hash/crc32"
	"io"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

func certificate(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVariablesComeBackAsTheyWent(t *testing.T) {
	want := SecureBoot(certificate(t, "platform"), []*x509.Certificate{certificate(t, "exchange")}, []*x509.Certificate{certificate(t, "one"), certificate(t, "two")})
	text, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the variables are %+v, want %+v", got, want)
	}
	if again, _ := Encode(want); again != text {
		t.Error("the same variables make another text")
	}
}

func TestAKeyIsKeptAsTheSpecificationSays(t *testing.T) {
	c := certificate(t, "signer")
	db := SecureBoot(c, nil, []*x509.Certificate{c})[2]
	if db.Attributes != 0x27 {
		t.Errorf("the attributes are %#x", db.Attributes)
	}
	// EFI_CERT_X509_GUID as it lies in memory, and the sizes of list, header and entry.
	head := []byte{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	head = binary.LittleEndian.AppendUint32(head, uint32(28+16+len(c.Raw)))
	head = binary.LittleEndian.AppendUint32(head, 0)
	head = binary.LittleEndian.AppendUint32(head, uint32(16+len(c.Raw)))
	if !bytes.HasPrefix(db.Data, head) || !bytes.Equal(db.Data[28+16:], c.Raw) {
		t.Errorf("the list is %x", db.Data)
	}
}

// EC2's dictionary is not here, but any reader with any dictionary must come to the same:
// the stream names one and refers to nothing in it.
func TestTheStreamNeedsNothingOfTheDictionaryThatItNames(t *testing.T) {
	all := []*x509.Certificate{certificate(t, "all")}
	want := SecureBoot(all[0], all, all)
	text, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	// What starts every UefiData that EC2 gives out, beside the CRC.
	if string(data[:8]) != "AMZNUEFI" || !bytes.Equal(data[12:22], []byte{0, 0, 0, 0, 0x78, 0xf9, 0x6b, 0xb7, 0xd9, 0xf7}) {
		t.Errorf("it starts with % x", data[:22])
	}
	if got := crc32.Checksum(data[12:], crc32.MakeTable(crc32.Castagnoli)); got != binary.LittleEndian.Uint32(data[8:]) {
		t.Errorf("the CRC-32C is %x", got)
	}
	stream, other := data[16:], []byte("some other dictionary, of which nothing is used")
	binary.BigEndian.PutUint32(stream[2:], adler32.Checksum(other))
	r, err := zlib.NewReaderDict(bytes.NewReader(stream), other)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parse(&reader{rest: plain}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("a reader with a dictionary gets %+v, %v", got, err)
	}
}

func TestWhatNeedsTheDictionaryIsRefusedWithItsReason(t *testing.T) {
	dictionary := bytes.Repeat([]byte("PK KEK db dbx "), 20)
	var stream bytes.Buffer
	stream.Write(make([]byte, 4))
	w, err := zlib.NewWriterLevelDict(&stream, zlib.BestCompression, dictionary)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(dictionary)
	w.Close()
	data := binary.LittleEndian.AppendUint32([]byte(magic), crc32.Checksum(stream.Bytes(), castagnoli))
	_, err = Decode(base64.StdEncoding.EncodeToString(append(data, stream.Bytes()...)))
	if err == nil || !strings.Contains(err.Error(), "EC2's own dictionary") {
		t.Errorf("the error is %v", err)
	}
}

func TestDamagedDataIsRefused(t *testing.T) {
	text, err := Encode(SecureBoot(certificate(t, "platform"), nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	data, _ := base64.StdEncoding.DecodeString(text)
	for name, damaged := range map[string][]byte{
		"empty": nil, "cut short": data[:len(data)-1], "of another kind": append([]byte("X"), data[1:]...),
		"flipped": append(bytes.Clone(data[:len(data)-9]), append([]byte{data[len(data)-9] ^ 1}, data[len(data)-8:]...)...),
	} {
		if got, err := Decode(base64.StdEncoding.EncodeToString(damaged)); err == nil {
			t.Errorf("data that is %s is read as %+v", name, got)
		}
	}
	if _, err := parse(&reader{rest: binary.LittleEndian.AppendUint64(nil, 1<<60)}); err == nil {
		t.Error("a count without variables is read")
	}
}
