package autoscaling

// roll is a rolling update that CloudFormation carries out.
type roll struct {
	Token string `json:"token"`
}
