package recorded

// What the types take, as the CloudFormation reference has it, without what no template has
// asked for so far.

type pair struct{ Key, Value string }

type loadBalancer struct {
	Name, Type, Scheme, IpAddressType                    string //nolint:revive // CloudFormation's spelling
	EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic string
	Subnets, SecurityGroups                              []string
	SubnetMappings                                       []struct{ SubnetId, AllocationId, PrivateIPv4Address, IPv6Address string } //nolint:revive // the same
	LoadBalancerAttributes, Tags                         []pair
}

type targetGroup struct {
	Name, VpcId, TargetType, Protocol, ProtocolVersion, IpAddressType                                           string //nolint:revive // CloudFormation's spelling
	HealthCheckEnabled                                                                                          bool
	HealthCheckPath, HealthCheckPort, HealthCheckProtocol                                                       string
	Port, HealthCheckIntervalSeconds, HealthCheckTimeoutSeconds, HealthyThresholdCount, UnhealthyThresholdCount int
	Matcher                                                                                                     struct{ HttpCode, GrpcCode string } //nolint:revive // the same
	Targets                                                                                                     []struct {
		Id, AvailabilityZone string //nolint:revive // the same
		Port                 int
	}
	TargetGroupAttributes, Tags []pair
}

type listener struct {
	LoadBalancerArn, Protocol, SslPolicy string
	Port                                 int
	AlpnPolicy                           []string
	Certificates                         []struct{ CertificateArn string }
	DefaultActions                       []struct {
		Type, TargetGroupArn string
		Order                int
	}
	ListenerAttributes []pair
}

type bucket struct {
	BucketName       string
	BucketEncryption struct {
		ServerSideEncryptionConfiguration []struct {
			BucketKeyEnabled              bool
			ServerSideEncryptionByDefault struct{ SSEAlgorithm, KMSMasterKeyID string }
		}
	}
	LifecycleConfiguration struct {
		Rules []struct {
			Id, Prefix, Status             string //nolint:revive // CloudFormation's spelling
			ExpirationInDays               int
			ExpiredObjectDeleteMarker      bool
			NoncurrentVersionExpiration    struct{ NoncurrentDays, NewerNoncurrentVersions int }
			AbortIncompleteMultipartUpload struct{ DaysAfterInitiation int }
			Transitions                    []struct {
				StorageClass     string
				TransitionInDays int
			}
		}
	}
	LoggingConfiguration struct{ DestinationBucketName, LogFilePrefix string }
	OwnershipControls    struct {
		Rules []struct{ ObjectOwnership string }
	}
	PublicAccessBlockConfiguration struct{ BlockPublicAcls, BlockPublicPolicy, IgnorePublicAcls, RestrictPublicBuckets bool }
	VersioningConfiguration        struct{ Status string }
	ObjectLockEnabled              bool
	Tags                           []pair
}

type bucketPolicy struct {
	Bucket         string
	PolicyDocument any
}

type key struct {
	Description, KeySpec, KeyUsage, Origin    string
	KeyPolicy                                 any
	Enabled, EnableKeyRotation, MultiRegion   bool
	BypassPolicyLockoutSafetyCheck            bool
	PendingWindowInDays, RotationPeriodInDays int
	Tags                                      []pair
}

type alias struct{ AliasName, TargetKeyId string } //nolint:revive // CloudFormation's spelling

type project struct {
	Name, Description, ServiceRole, SourceVersion, EncryptionKey, Visibility string
	BadgeEnabled                                                             bool
	Artifacts                                                                struct {
		Type, Location, Name, NamespaceType, Packaging, Path string
		EncryptionDisabled, OverrideArtifactName             bool
	}
	Cache struct {
		Type, Location string
		Modes          []string
	}
	Environment struct {
		Type, Image, ComputeType, Certificate, ImagePullCredentialsType string
		PrivilegedMode                                                  bool
		EnvironmentVariables                                            []struct{ Name, Value, Type string }
	}
	LogsConfig struct {
		CloudWatchLogs struct{ Status, GroupName, StreamName string }
		S3Logs         struct {
			Status, Location   string
			EncryptionDisabled bool
		}
	}
	Source struct {
		Type, Location, BuildSpec string
		GitCloneDepth             int
		InsecureSsl               bool
	}
	VpcConfig struct {
		VpcId                     string //nolint:revive // CloudFormation's spelling
		Subnets, SecurityGroupIds []string
	}
	AutoRetryLimit, ConcurrentBuildLimit, QueuedTimeoutInMinutes, TimeoutInMinutes int
	Tags                                                                           []pair
}

type schedule struct {
	Name, Description, ScheduleExpression, ScheduleExpressionTimezone, State, StartDate, EndDate, KmsKeyArn string
	FlexibleTimeWindow                                                                                      struct {
		Mode                   string
		MaximumWindowInMinutes int
	}
	Target struct {
		Arn, RoleArn, Input string
		DeadLetterConfig    struct{ Arn string }
		RetryPolicy         struct{ MaximumEventAgeInSeconds, MaximumRetryAttempts int }
	}
}
