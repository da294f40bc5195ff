package ebs

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/ovenbird-dev/ovenbird/lab/catalog"
	"github.com/ovenbird-dev/ovenbird/lab/wire"
)

// maxVolume is the largest volume, in GiB.
const maxVolume = 64 << 10

var (
	snapshotID = regexp.MustCompile(`^snap-[0-9a-f]{8,17}$`)
	keyARN     = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/.+$`)
)

type tag struct{ Key, Value string }

type startRequest struct {
	VolumeSize       int64
	ParentSnapshotID string `json:"ParentSnapshotId"`
	Tags             []tag
	Description      string
	ClientToken      string
	Encrypted        *bool
	KMSKeyARN        string `json:"KmsKeyArn"`
	Timeout          *int
}

type startResponse struct {
	BlockSize        int
	Description      string `json:",omitempty"`
	KMSKeyARN        string `json:"KmsKeyArn,omitempty"`
	OwnerID          string `json:"OwnerId"`
	ParentSnapshotID string `json:"ParentSnapshotId,omitempty"`
	SnapshotID       string `json:"SnapshotId"`
	StartTime        float64
	Status           string
	Tags             []tag `json:",omitempty"`
	VolumeSize       int64
}

func (s Service) start(call wire.Call) (answer, error) {
	var in startRequest
	decoder := json.NewDecoder(bytes.NewReader(call.Body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		return answer{}, exception(http.StatusBadRequest, "SerializationException", "The request's body cannot be read: "+err.Error(), "")
	}
	order, err := in.order(call.Region)
	if err != nil {
		return answer{}, err
	}
	sum := sha256.Sum256(call.Body)
	order.Digest = hex.EncodeToString(sum[:])
	started, err := s.Catalog.Start(order)
	if err != nil {
		return answer{}, explain(err, order.Parent)
	}
	out := startResponse{
		BlockSize: catalog.BlockSize, Description: started.Description, KMSKeyARN: started.KMSKey, OwnerID: s.Plan.Account,
		ParentSnapshotID: started.Parent, SnapshotID: started.ID, StartTime: epoch(started.Started), Status: status(started),
		VolumeSize: started.VolumeGiB,
	}
	for _, key := range slices.Sorted(maps.Keys(started.Tags)) {
		out.Tags = append(out.Tags, tag{key, started.Tags[key]})
	}
	return answer{status: http.StatusCreated, body: out}, nil
}

// order checks the request.
func (in startRequest) order(region string) (catalog.Snapshot, error) {
	order := catalog.Snapshot{
		Region: region, Description: in.Description, VolumeGiB: in.VolumeSize, Parent: in.ParentSnapshotID,
		KMSKey: in.KMSKeyARN, Token: in.ClientToken, Encrypted: in.Encrypted != nil && *in.Encrypted, Tags: map[string]string{},
	}
	switch {
	case in.VolumeSize < 1 || in.VolumeSize > maxVolume:
		return order, invalid("INVALID_VOLUME_SIZE", "The volume size is "+strconv.FormatInt(in.VolumeSize, 10)+" GiB; it must be between 1 and 65536.")
	case in.ParentSnapshotID != "" && in.Encrypted != nil:
		return order, invalid("INVALID_PARAMETER_VALUE", "ParentSnapshotId and Encrypted cannot be specified together.")
	case in.ParentSnapshotID != "" && !snapshotID.MatchString(in.ParentSnapshotID):
		return order, invalid("INVALID_SNAPSHOT_ID", "The parent snapshot's ID is malformed.")
	case in.KMSKeyARN != "" && (in.Encrypted == nil || !*in.Encrypted):
		return order, invalid("INVALID_PARAMETER_VALUE", "KmsKeyArn needs Encrypted.")
	case in.KMSKeyARN != "" && !keyARN.MatchString(in.KMSKeyARN):
		return order, invalid("INVALID_CUSTOMER_KEY", "KmsKeyArn is not the ARN of a key.")
	case len([]rune(in.Description)) > 255 || len(in.ClientToken) > 255:
		return order, invalid("INVALID_PARAMETER_VALUE", "Description and ClientToken hold at most 255 characters.")
	case in.Timeout != nil && (*in.Timeout < 10 || *in.Timeout > 4320):
		return order, invalid("INVALID_PARAMETER_VALUE", "The timeout must be between 10 and 4320 minutes.")
	case len(in.Tags) > 50:
		return order, invalid("INVALID_TAG", "A snapshot has at most 50 tags.")
	}
	if in.Timeout != nil {
		order.Timeout = time.Duration(*in.Timeout) * time.Minute
	}
	for _, t := range in.Tags {
		if _, twice := order.Tags[t.Key]; twice || t.Key == "" || len([]rune(t.Key)) > 127 || len([]rune(t.Value)) > 255 || reserved(t.Key) {
			return order, invalid("INVALID_TAG", "The tag key '"+t.Key+"' is empty, reserved, too long or given twice, or its value is too long.")
		}
		order.Tags[t.Key] = t.Value
	}
	return order, nil
}

func reserved(key string) bool {
	return len(key) >= 4 && (key[:4] == "aws:" || key[:4] == "AWS:")
}

func status(s catalog.Snapshot) string {
	if s.Status == catalog.Sealed {
		return string(catalog.Pending)
	}
	return string(s.Status)
}

// epoch is a time as JSON services send it, in seconds.
func epoch(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// snapshotOf checks an ID.
func snapshotOf(id string) error {
	if !snapshotID.MatchString(id) {
		return invalid("INVALID_SNAPSHOT_ID", "The snapshot ID is malformed.")
	}
	return nil
}

func (s Service) put(call wire.Call, at path) (answer, error) {
	if err := snapshotOf(at.snapshot); err != nil {
		return answer{}, err
	}
	index, err := strconv.ParseInt(at.block, 10, 32)
	if err != nil {
		return answer{}, invalid("INVALID_BLOCK", "The block index is not a number.")
	}
	header := call.Request.Header
	checksum := base64.StdEncoding.EncodeToString(call.Sum[:])
	switch {
	case header.Get("X-Amz-Data-Length") != strconv.Itoa(catalog.BlockSize):
		return answer{}, invalid("INVALID_BLOCK", "The data length must be 524288.")
	case len(call.Body) != catalog.BlockSize:
		return answer{}, invalid("INVALID_BLOCK", "The block's data is "+strconv.Itoa(len(call.Body))+" bytes long; it must be 524288.")
	case header.Get("X-Amz-Checksum-Algorithm") != "SHA256":
		return answer{}, invalid("INVALID_PARAMETER_VALUE", "The checksum algorithm must be SHA256.")
	case header.Get("X-Amz-Checksum") == "":
		return answer{}, invalid("INVALID_PARAMETER_VALUE", "The checksum is missing.")
	case header.Get("X-Amz-Checksum") != checksum:
		return answer{}, invalid("INVALID_BLOCK", "The checksum does not match that of the block's data.")
	}
	if progress := header.Get("X-Amz-Progress"); progress != "" {
		if n, err := strconv.Atoi(progress); err != nil || n < 0 || n > 100 {
			return answer{}, invalid("INVALID_PARAMETER_VALUE", "The progress must be a percentage.")
		}
	}
	if err := s.Catalog.Put(call.Region, at.snapshot, int(index), call.Body, call.Sum); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusCreated, body: struct{}{}, headers: map[string]string{
		"X-Amz-Checksum": checksum, "X-Amz-Checksum-Algorithm": "SHA256",
	}}, nil
}

func (s Service) complete(call wire.Call, id string) (answer, error) {
	if err := snapshotOf(id); err != nil {
		return answer{}, err
	}
	header := call.Request.Header
	count, err := strconv.ParseInt(header.Get("X-Amz-Changedblockscount"), 10, 32)
	if err != nil || count < 0 {
		return answer{}, invalid("INVALID_PARAMETER_VALUE", "The changed blocks count is not a number.")
	}
	var checksum *catalog.Sum
	algorithm, method := header.Get("X-Amz-Checksum-Algorithm"), header.Get("X-Amz-Checksum-Aggregation-Method")
	if text := header.Get("X-Amz-Checksum"); text != "" {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != sha256.Size || algorithm != "SHA256" || method != "LINEAR" {
			return answer{}, invalid("INVALID_PARAMETER_VALUE", "A checksum must be SHA256 in base64, aggregated LINEAR.")
		}
		checksum = (*catalog.Sum)(raw)
	} else if algorithm != "" || method != "" {
		return answer{}, invalid("INVALID_PARAMETER_VALUE", "The checksum is missing.")
	}
	snapshot, err := s.Catalog.Complete(call.Region, id, int(count), checksum)
	if err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusAccepted, body: map[string]string{"Status": status(snapshot)}}, nil
}
