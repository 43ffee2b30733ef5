"""Records in the shape in which CloudTrail writes them ("CloudTrail record contents" of its user guide)."""

from __future__ import annotations

from typing import Any

ROLE = "arn:aws:iam::111122223333:role/broker"
SESSION = "arn:aws:sts::111122223333:assumed-role/broker/lightsail-broker"


def a_record(request_id: str = "aws-1", time: str = "2026-01-31T09:30:00Z", **members: Any) -> dict[str, Any]:
    """Answer what the broker's own call leaves in CloudTrail; `members` replace what it has."""
    return {
        "eventVersion": "1.09",
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": "AROAEXAMPLEEXAMPLE123:lightsail-broker",
            "arn": SESSION,
            "accountId": "111122223333",
            "accessKeyId": "ASIAEXAMPLEEXAMPLE12",
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "principalId": "AROAEXAMPLEEXAMPLE123",
                    "arn": ROLE,
                    "accountId": "111122223333",
                    "userName": "broker",
                },
                "attributes": {"creationDate": "2026-01-31T09:00:00Z", "mfaAuthenticated": "false"},
            },
        },
        "eventTime": time,
        "eventSource": "lightsail.amazonaws.com",
        "eventName": "GetInstanceAccessDetails",
        "awsRegion": "eu-west-1",
        "sourceIPAddress": "198.51.100.7",
        "userAgent": "aiobotocore/2.25 Python/3.11",
        "requestParameters": {"instanceName": "web-1", "protocol": "ssh"},
        "responseElements": None,
        "requestID": request_id,
        "eventID": f"event-of-{request_id}",
        "readOnly": True,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": "111122223333",
        "eventCategory": "Management",
        "tlsDetails": {
            "tlsVersion": "TLSv1.3",
            "cipherSuite": "TLS_AES_128_GCM_SHA256",
            "clientProvidedHostHeader": "lightsail.eu-west-1.amazonaws.com",
        },
        **members,
    }
